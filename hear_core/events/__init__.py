"""Events: timed scores, decoding, smoothing, file formats, plots."""
