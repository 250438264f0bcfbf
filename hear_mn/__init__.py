"""Clip taggers as HEAR plug-ins: every embedding in ``embeddings_configs/hear_mn.yaml``.

>>> import hear_mn
>>> hear_mn.mn04_e1_l.config.taps
('logits', 'e1')
"""

from types import ModuleType

from hear_core.plugins import import_hook as modules
from hear_mn.streaming import TagStream
from hear_mn.tagger import EATagger
from hear_mn.zoo import ZOO

__all__ = ["ZOO", "EATagger", "TagStream"]

modules.publish(__name__, ZOO)


def __getattr__(name: str) -> ModuleType:
    return modules.attribute(__name__, name)


def __dir__() -> list[str]:
    return [*globals(), *modules.names(__name__)]
