"""Sequence models: they add context to the frames of a backbone."""
