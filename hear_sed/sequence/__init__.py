"""Sequence models: from the frames of a backbone to frames that know their context."""
