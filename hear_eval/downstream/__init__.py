"""Downstream evaluation of embeddings by the protocol of heareval."""
