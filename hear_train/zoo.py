"""The networks that can be trained, and that teach: taggers and detectors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hear_core.networks.backbone import Backbone
from hear_core.zoo.registry import Zoo
from hear_mn.zoo import ZOO as TAGGERS
from hear_sed.zoo import ZOO as DETECTORS
from hear_sed.zoo import compose_detector

ZOO = Zoo({**TAGGERS, **DETECTORS}, compose_detector)


def transfer(network: Backbone, weights: Mapping[str, Tensor]) -> list[str]:
    """Load those weights into a network that it has in the same shape.

    Used where a network gets another head or sequence model than the one that it starts from.

    Returns:
        Names of the tensors of the network that were not loaded.
    """
    own = network.state_dict()
    fitting = {
        name: tensor.to(own[name].dtype)
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape
    }
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
