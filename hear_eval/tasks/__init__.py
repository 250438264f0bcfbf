"""HEAR tasks on disk: made, mixed, checked, brought to another rate; and those of HEAR itself."""
