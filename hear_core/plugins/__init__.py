"""HEAR plug-ins: embedding configs, the import hook and the models behind the HEAR API."""
