"""From a config to a plug-in model."""

from __future__ import annotations

import logging
from typing import Any

import torch

from hear_core.errors import ConfigError
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.networks.extractor import Extractor
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.frame_model import FrameModel
from hear_core.plugins.plugin_model import PluginModel
from hear_core.plugins.window_model import WindowModel
from hear_core.zoo.registry import Zoo

log = logging.getLogger(__name__)


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
        zoo: Where the config's backbone stands.
        config: Of the embedding.
        model_file_path: Weights for the backbone; the released ones are found or fetched if
            there is no path.
        pretrained: If False, take random weights, always the same. They are good for nothing but
            trying things, and as a control.
        num_classes: Of the checkpoint, if it is not the released one.
        engine: ``torch``, ``onnx`` or ``auto``, see `PluginModel`.
        autocast: On CUDA, run the backbone in float16, as it was trained. Elsewhere, and always
            for the front-end, it is float32.
        megabytes: Memory that the activations of one batch may take, about.
        overrides: Values of the config to replace: ``backbone``, ``taps``, ``pooling``,
            ``timestamp_window``, ``timestamp_hop``, ``scene_window``, ``scene_hop``.

    Raises:
        ConfigError: An option, a name or a value means nothing here.
        CheckpointError: The weights cannot be had, or are those of another network.
    """
    config = config.override(**overrides)
    weights = None
    if pretrained:
        network, record, weights = zoo.open(
            config.backbone, model_file_path, num_classes=num_classes
        )
    elif model_file_path:
        msg = f"pretrained=False takes no weights, but model_file_path is {model_file_path!r}"
        raise ConfigError(msg)
    else:
        log.warning("%s: the weights are random; its embeddings mean nothing", config.backbone)
        network = zoo.random_init(config.backbone, num_classes=num_classes)
        record = zoo[config.backbone].with_classes(num_classes)
    # Folded and channels-last, a MobileNet takes a third of its time on a CPU.
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = Extractor(
        record.frontend(), network, config.taps, config.pooling, autocast=autocast
    )
    kind = FrameModel if network.framewise else WindowModel
    return kind(extractor, config, record, weights, engine=engine, megabytes=megabytes)


def extractor_skeleton(zoo: Zoo, config: EmbeddingConfig) -> Extractor:
    """Return the extractor of a config without memory for its weights, to ask for its shape."""
    record = zoo[config.backbone]
    return Extractor(record.frontend(), record.skeleton(), config.taps, config.pooling)
