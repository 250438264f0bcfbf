"""Golden arrays of published code, and the weights and signals they were computed with."""

from tests.goldens.arrays import arrays, assert_close, facts
from tests.goldens.fill import frame_features, waveform
from tests.goldens.weights import detector, manifest, manifests, mobilenet, panns

__all__ = [
    "arrays",
    "assert_close",
    "detector",
    "facts",
    "frame_features",
    "manifest",
    "manifests",
    "mobilenet",
    "panns",
    "waveform",
]
