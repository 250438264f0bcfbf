"""Frame-wise detectors: what sounds, and when.

>>> import hear_sed
>>> hear_sed.ZOO["fmn10+tf:256"].figures
{'PSDS1': 43.86}
"""

from hear_sed.frame_detector import FrameDetector
from hear_sed.sequence_models import SEQUENCE_MODELS
from hear_sed.zoo import ZOO, detector

__all__ = ["SEQUENCE_MODELS", "ZOO", "FrameDetector", "detector"]
