"""Audio: finding, decoding and reading files, resampling, framing."""
