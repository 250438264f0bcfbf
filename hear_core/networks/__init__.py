"""The `Backbone` contract, taps and pooling, and blocks that networks share."""
