"""Records of networks: checkpoints, download, labels."""
