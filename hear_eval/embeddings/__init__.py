"""Embeddings by any HEAR plug-in: of tasks, in the layout of heareval, and of audio files."""
