"""Audio in: finding and reading files, resampling, framing."""
