"""Embeddings by any HEAR plug-in: of tasks, in heareval's folders, and of any audio files."""
