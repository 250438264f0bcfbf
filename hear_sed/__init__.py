"""Frame-wise sound event detectors as HEAR plug-ins.

Every embedding in ``embeddings_configs/hear_sed.yaml`` is a module.

>>> import hear_sed
>>> hear_sed.fmn10_tf256.config.backbone
'fmn10+tf:256'
>>> hear_sed.ZOO["fmn10+tf:256"].reported_metrics
{'PSDS1': 43.86}
"""

from types import ModuleType

from hear_core.plugins import import_hook as modules
from hear_sed.detector import Detector
from hear_sed.streaming import DetectionStream
from hear_sed.zoo import ZOO

__all__ = ["ZOO", "DetectionStream", "Detector"]

modules.publish(__name__, ZOO)


def __getattr__(name: str) -> ModuleType:
    return modules.attribute(__name__, name)


def __dir__() -> list[str]:
    return [*globals(), *modules.names(__name__)]
