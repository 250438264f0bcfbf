"""The published embeddings as data: one YAML file per plug-in package."""
