"""What is published: one YAML file a plug-in package, its embeddings as data."""
