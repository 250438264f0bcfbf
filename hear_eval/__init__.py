"""The benchmark side: HEAR tasks, embeddings of them and of files, what they are worth, reports."""
