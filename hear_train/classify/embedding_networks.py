"""Networks that embeddings are taken from, and the classifiers that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_core.networks.extractor import Extractor
from hear_core.networks.tap_classifier import HEAD_INPUT, TapClassifier
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.module_network import (
    SCENE,
    ModuleNetwork,
    RawWaveform,
    import_plugin,
    load_plugin_model,
)
from hear_core.plugins.names import find_plugin
from hear_core.plugins.window_model import WindowModel
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.download import sha256_of
from hear_core.zoo.registry import NetworkRecord, Zoo, is_checkpoint_path
from hear_mn.zoo import ZOO

LONGEST_WINDOW = 60.0  # seconds, which a network processes in one piece


@dataclass(frozen=True)
class EmbeddingNetwork:
    """A network with the taps that are classified.

    Args:
        name: Name of the module, backbone or checkpoint.
        zoo: Zoo of the network.
        record: Record of the network.
        network: Network with its weights.
        taps: Taps that are classified.
        pooling: Pooling of map taps.
        weights: File of the weights; None if they are random.
    """

    name: str
    zoo: Zoo
    record: NetworkRecord
    network: Backbone
    taps: tuple[str, ...]
    pooling: str
    weights: Path | None

    def classifier_record(self, labels: Sequence[str], hidden: int = 0) -> NetworkRecord:
        """Return the record of a classifier of the network's taps.

        Args:
            labels: Names of the classes.
            hidden: Size of the hidden layer of its head; 0 is a linear head.
        """
        classes = [
            each
            for each in self.zoo.networks.values()
            if isinstance(each, type) and issubclass(each, TapClassifier)
        ]
        name = type(self.network).__name__
        network = next((each for each in classes if name in each.networks), None)
        if network is None:
            msg = f"a classifier of the embeddings of {self.name} cannot be built: it is a {name}"
            raise ConfigError(msg)
        return NetworkRecord(
            network,
            {
                "network": name,
                "arguments": {**self.record.arguments, **self._base_classes},
                "taps": list(self.taps),
                "pooling": self.pooling,
                "hidden": hidden,
                "num_classes": len(labels),
                "n_mels": self.record.frontend().n_mels,
            },
            self.record.frontend,
            self.record.checkpoint,
            features=HEAD_INPUT,
            labels=tuple(labels),
        )

    def classifier(
        self, labels: Sequence[str], hidden: int = 0, head: nn.Module | None = None
    ) -> TapClassifier:
        """Return a classifier with the network's weights.

        Args:
            labels: Names of the classes.
            hidden: Size of the hidden layer of its head; 0 is a linear head.
            head: Head with the weights to use; they are 0 if it is None.
        """
        network = self.classifier_record(labels, hidden).build()
        assert isinstance(network, TapClassifier)  # noqa: S101 - see `classifier_record`
        network.backbone.load_state_dict(self.network.state_dict())
        if head is None:
            for parameter in network.classifier.parameters():
                nn.init.zeros_(parameter)
        else:
            network.classifier.load_state_dict(head.state_dict())
        return network.eval()

    @property
    def is_random(self) -> bool:
        """Whether the weights of the network are random."""
        return self.weights is None and not isinstance(self.network, ModuleNetwork)

    @cached_property
    def _base_classes(self) -> Mapping[str, int]:
        shapes = self.network.tap_shapes
        return {"num_classes": shapes["logits"].channels} if "logits" in shapes else {}

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Everything that the embeddings depend on, as JSON can hold it."""
        record = self.classifier_record(("",))
        described = record.describe()
        return {
            "network": described.arguments["network"],
            "arguments": described.arguments["arguments"],
            "frontend": described.frontend,
            "frontend_arguments": described.frontend_arguments,
            "taps": list(self.taps),
            "pooling": self.pooling,
            "weights": sha256_of(self.weights) if self.weights else _hash(self.network),
        }


class TapEmbedder:
    """Computes a tap of a classifier from waveforms, see `hear_train.classify.embeddings.Embedder`.

    Args:
        network: The classifier.
        record: Its record.
        tap: The tap: the input of its head, or ``logits``.
        weights: File of the weights; None if they are random.
        device: Device to run on.

    Attributes:
        sample_rate: Sample rate in Hz of the waveforms.
        size: Length of the tap.
    """

    def __init__(
        self,
        network: TapClassifier,
        record: NetworkRecord,
        tap: str = HEAD_INPUT,
        weights: Path | None = None,
        device: str = "cpu",
    ) -> None:
        config = EmbeddingConfig(
            "classifier", (tap,), timestamp_window=1.0, scene_window=LONGEST_WINDOW
        )
        extractor = Extractor(record.frontend(), network, (tap,))
        model = WindowModel(extractor, config, record, weights)
        self._model = model.to(device)
        self.sample_rate, self.size = model.sample_rate, model.scene_embedding_size

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Return values (windows, size) of windows (windows, samples)."""
        return self._model.get_scene_embeddings(torch.from_numpy(windows)).numpy()


def open_embedding_network(
    name: str, model: str | Path = "", *, random_weights: bool = False
) -> EmbeddingNetwork:
    """Return the network of a module, with its weights.

    Args:
        name: Name of a plug-in module or backbone, of any module with the HEAR API, or the path of
            a checkpoint or run folder. Of a backbone, the embedding is the tap that its authors
            use.
        model: File of weights; the released ones by default.
        random_weights: Use random weights, as a control.

    Raises:
        ConfigError: The name is unknown.
        CheckpointError: The weights cannot be found, downloaded or read, or do not fit.
    """
    try:
        found = find_plugin(name)
    except ConfigError:
        if is_checkpoint_path(name) or not _is_importable(name):
            raise
        return _other_base(name, str(model))
    zoo: Zoo = found.package.ZOO
    weights = None
    if random_weights:
        network, record = zoo.random_init(found.backbone), zoo[found.backbone]
    else:
        network, record, weights = zoo.open(found.backbone, model)
    config = found.config or EmbeddingConfig(found.backbone, (record.features,))
    taps, pooling = config.taps, config.pooling
    if isinstance(network, TapClassifier):  # another head on the embeddings of a classifier
        taps, pooling = network.taps, network.pooling
        base = type(network).networks[record.arguments["network"]]
        record = replace(record, network=base, arguments=record.arguments["arguments"])
        network = network.backbone
    return EmbeddingNetwork(name, zoo, record, network, taps, pooling, weights)


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _other_base(name: str, weights: str) -> EmbeddingNetwork:
    """Return the network of a module of another package."""
    model = load_plugin_model(import_plugin(name), weights)
    arguments = {"module": name, "size": int(model.scene_embedding_size), "model": weights}
    record = NetworkRecord(
        ModuleNetwork,
        arguments,
        partial(RawWaveform, sample_rate=int(model.sample_rate)),
        Checkpoint(name, ""),
        features=SCENE,
    )
    return EmbeddingNetwork(name, ZOO, record, record.build(), (SCENE,), "avg", None)


def _hash(network: nn.Module) -> str:
    key = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        key.update(name.encode())
        key.update(tensor.contiguous().numpy())
    return key.hexdigest()
