"""Loading of plug-in models: from a config to a model with weights."""

from __future__ import annotations

import logging
from typing import Any

from hear_core.errors import ConfigError, require_number
from hear_core.networks.extractor import Extractor
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.frame_model import FrameModel
from hear_core.plugins.plugin_model import PluginModel
from hear_core.plugins.window_model import WindowModel
from hear_core.zoo.registry import Zoo

log = logging.getLogger(__name__)

_MAX_CLASSES = 100_000


def load_plugin(
    zoo: Zoo,
    config: EmbeddingConfig,
    model_file_path: str = "",
    *,
    pretrained: bool = True,
    num_classes: int | None = None,
    engine: str = "auto",
    autocast: bool = True,
    megabytes: float | None = None,
    **overrides: Any,
) -> PluginModel:
    """Return the plug-in model of a config.

    Args:
        zoo: Zoo that has the backbone of the config.
        config: Config of the embedding.
        model_file_path: File of weights for the backbone. By default, the released ones are looked
            for and downloaded if necessary.
        pretrained: If False, use random weights, the same every time, as a control or to avoid a
            download.
        num_classes: Number of classes. If the checkpoint has another number, its last layer is
            replaced by an untrained one. By default, that of the checkpoint.
        engine: ``torch``, ``onnx`` or ``auto``, see `PluginModel`.
        autocast: Run the backbone in float16 on CUDA devices, as it was trained. Everything else
            is computed in float32.
        megabytes: Memory budget for the activations of one batch, see `PluginModel`.
        overrides: Values of the config to replace: ``backbone``, ``taps``, ``pooling``,
            ``timestamp_window``, ``timestamp_hop``, ``scene_window``, ``scene_hop``.

    Raises:
        ConfigError: An option, a name or a value is not valid.
        CheckpointError: The weights are missing, damaged, or made for another network.
    """
    config = config.override(**overrides)
    if num_classes is not None:
        require_number("num_classes", num_classes, 1, _MAX_CLASSES, integer=True)
    weights = None
    if pretrained:
        network, record, weights = zoo.open(
            config.backbone, model_file_path, num_classes=num_classes
        )
    elif model_file_path:
        msg = f"pretrained=False takes no weights, but model_file_path is {model_file_path!r}"
        raise ConfigError(msg)
    else:
        log.warning("%s: the weights are random, and so are its embeddings", config.backbone)
        network = zoo.random_init(config.backbone, num_classes=num_classes)
        record = zoo[config.backbone].with_classes(num_classes)
    extractor = Extractor(
        record.frontend(), network, config.taps, config.pooling, autocast=autocast
    )
    model_class = FrameModel if network.framewise else WindowModel
    return model_class(extractor, config, record, weights, engine=engine, megabytes=megabytes)


def extractor_skeleton(zoo: Zoo, config: EmbeddingConfig) -> Extractor:
    """Return the extractor of a config without memory for its weights, to look up its sizes."""
    record = zoo[config.backbone]
    return Extractor(record.frontend(), record.skeleton(), config.taps, config.pooling)
