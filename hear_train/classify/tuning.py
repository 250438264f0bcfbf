"""Fine-tuning of the last blocks of a classifier's network, after its head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hear_core.errors import ConfigError, require_number
from hear_core.networks.backbone import Backbone
from hear_core.networks.tap_classifier import HEAD_INPUT, TapClassifier
from hear_core.zoo.download import sha256_of
from hear_core.zoo.metadata import save_checkpoint
from hear_core.zoo.reading import read_checkpoint
from hear_core.zoo.registry import NetworkRecord
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.classify.embedding_networks import TapEmbedder
from hear_train.classify.embeddings import embed_clips
from hear_train.classify.sounds import TESTED, Sounds
from hear_train.data.clips import Clips
from hear_train.data.datasets import to_clips
from hear_train.data.samplers import UniformSampler
from hear_train.data.sources import ClipDrawer, DrawnBatches, WaveformAugmentation
from hear_train.evaluation import ClipEvaluator, EvaluationConfig
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.objective import block_parameters
from hear_train.objectives.supervised import Supervised
from hear_train.preprocessing import Preprocessing

if TYPE_CHECKING:
    from accelerate import Accelerator

VALIDATED = 0
"""The fold that is validated, and has no part in the training of the network."""

# The augmentation of EfficientAT's ex_esc50.py, without its mixing of log-mels.
_WAVEFORMS = WaveformAugmentation(gain=12, roll=4000, mix=0.3)
_SPECTROGRAMS = SpectrogramAugmentation(mel_edges=False)


@dataclass(frozen=True)
class FineTuning:
    """Settings of the fine-tuning of the last blocks of the network, after its head.

    Args:
        blocks: Number of blocks to train; 0 trains the head only.
        epochs: Number of epochs.
        lr: Highest learning rate.
        batch_size: Clips of a batch.
    """

    blocks: int = 0
    epochs: int = 15
    lr: float = 2e-4
    batch_size: int = 16

    def __post_init__(self) -> None:
        require_number("blocks", self.blocks, 0, 1000, integer=True)
        require_number("epochs", self.epochs, 1, 10_000, integer=True)
        require_number("batch_size", self.batch_size, 2, 4096, integer=True)
        require_number("lr", self.lr, 0, 1)


def frozen_parameters(network: TapClassifier, count: int) -> list[str]:
    """Return the names of the parameters that stay frozen, see `OptimiserConfig.frozen`.

    Args:
        network: The classifier.
        count: Number of blocks that are trained: the last of those that its head depends on.

    Raises:
        ConfigError: The network has fewer blocks.
    """
    blocks = _used_blocks(network)
    if count > len(blocks):
        msg = (
            f"{count} blocks cannot be fine-tuned: the embedding depends on {len(blocks)} blocks "
            "of the network"
        )
        raise ConfigError(msg)
    trained = {id(parameter) for block in blocks[len(blocks) - count :] for parameter in block}
    return [
        f"network.{name}"
        for name, parameter in network.named_parameters()
        if name.startswith("backbone.") and id(parameter) not in trained
    ]


def fine_tune(
    network: TapClassifier,
    record: NetworkRecord,
    sounds: Sounds,
    config: FineTuning,
    window: float,
    folder: Path,
    accelerator: Accelerator,
    *,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> tuple[TapClassifier, np.ndarray]:
    """Fine-tune a classifier with a trained head, or resume that.

    It is trained on the clips of all folds but `VALIDATED` and those that are tested on; the best
    epoch on the validated fold is kept.

    Args:
        network: The classifier.
        record: Its record, with the classes.
        sounds: The clips.
        config: Settings.
        window: Longest part of a clip in seconds that is trained on.
        folder: Folder of the training.
        accelerator: Device and precision.
        seed: Seed of the training.
        report: Called with the number of steps that are done, and of all.

    Returns:
        The classifier, and its logits for the windows of all clips, (windows, classes), in the
        order of `embed_clips`.
    """
    frontend = record.frontend()
    clips = to_clips(sounds.files, sounds.labels, sounds.recordings)
    train = [
        c for c, fold in zip(clips, sounds.folds, strict=True) if fold not in (VALIDATED, TESTED)
    ]
    valid = [c for c, fold in zip(clips, sounds.folds, strict=True) if fold == VALIDATED]
    drawer = ClipDrawer(
        Clips(train, frontend.sample_rate),
        UniformSampler(len(train), seed),
        window,
        _WAVEFORMS,
        seed,
    )
    frozen = tuple(frozen_parameters(network, config.blocks))
    settings = TrainerConfig(
        epochs=config.epochs,
        steps_per_epoch=max(1, -(-len(train) // config.batch_size)),
        optimiser=OptimiserConfig(lr=config.lr, frozen=frozen),
        schedule=Schedule(warm_up=1, down_start=1, down_length=max(1, config.epochs - 1)),
        grad_clip=5.0,
        seed=seed,
    )
    trainer = Trainer(
        Supervised(network, "bce"),
        DrawnBatches(drawer, config.batch_size, len(sounds.labels)),
        settings,
        folder,
        accelerator,
        evaluator=ClipEvaluator(
            {"valid": Clips(valid, frontend.sample_rate)},
            record.frontend(),
            EvaluationConfig(("mAP",)),
            sounds.labels,
            window,
            accelerator.device,
        ),
        preprocess=Preprocessing(frontend, _SPECTROGRAMS, seed),
        save=partial(_save, record),
        settings={
            "recipe": "classify",
            "labels": list(sounds.labels),
            "clips": [clip.name for clip in train],
            "window": window,
        },
    )
    file = trainer.run(None if report is None else lambda step, _: report(step, trainer.total))
    network.load_state_dict(read_checkpoint(file))
    network.cpu().eval()
    found = embed_clips(
        TapEmbedder(network, record, "logits", file),
        sounds.files,
        folder / "logits" / sha256_of(file)[:12],
        window,
        {"weights": sha256_of(file)},
    )
    return network, found.rows


def _save(
    record: NetworkRecord, path: Path, network: Backbone, metrics: Mapping[str, float]
) -> None:
    save_checkpoint(path, network, record.describe(metrics=metrics), half=False)


def _used_blocks(network: TapClassifier) -> list[list[nn.Parameter]]:
    """Return the blocks of the network that its embedding depends on, from its input."""
    samples = torch.zeros(2, network.n_mels, max(100, network.min_frames))
    with torch.enable_grad():
        network.zero_grad()
        network.eval()(samples, (HEAD_INPUT,))[HEAD_INPUT].sum().backward()
    blocks = block_parameters(network)
    used = [block for block in blocks if any(parameter.grad is not None for parameter in block)]
    network.zero_grad()
    return used
