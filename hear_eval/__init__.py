"""The benchmark side: HEAR tasks on disk, the tools of HEAR itself, embeddings of many files."""
