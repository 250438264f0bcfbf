"""Analysis of networks: parameters, MACs, memory, receptive field."""
