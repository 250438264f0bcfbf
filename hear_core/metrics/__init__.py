"""Metrics of clips and events."""
