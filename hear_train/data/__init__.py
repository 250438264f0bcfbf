"""Data: clips with labels, named data sets with their splits, samplers, and sources of batches."""
