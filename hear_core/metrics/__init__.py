"""Metrics of clips (ranking, accuracy) and of events, and a table of them by name."""
