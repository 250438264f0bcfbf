"""Events: decoding scores, smoothing, file formats, timelines."""
