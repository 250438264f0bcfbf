"""Export of a model to a file, with a parity report."""
