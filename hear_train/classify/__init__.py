"""Classifiers for sounds of one's own: embeddings, heads, thresholds and a report."""
