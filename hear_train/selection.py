"""Selection of random mixtures that a teacher classifies confidently, as clips to train on.

A teacher takes most random sounds for speech, music, animals or noise. Selecting the same number of
mixtures for every class gives more examples of the rare classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch.utils.data import DataLoader

from hear_core.errors import ConfigError
from hear_core.zoo.registry import Zoo
from hear_mn.zoo import ZOO
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.batch import Batch
from hear_train.data.clips import Clips, find_clips
from hear_train.data.mixtures import MixtureConfig, MixtureDrawer
from hear_train.data.sources import DrawnBatches
from hear_train.objectives.teachers import NetworkTeacher
from hear_train.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_BATCH = 32


def best_of_classes(scores: np.ndarray, per_class: int, least: float) -> list[int]:
    """Return the rows that are among the highest of a class, in ascending order.

    Args:
        scores: Probabilities (sounds, classes).
        per_class: Number of rows for each class.
        least: Probability below which a row is not selected for a class.
    """
    order = np.argsort(-scores, axis=0, kind="stable")[:per_class]
    high = np.take_along_axis(scores, order, 0) >= least
    return sorted(set(order[high].tolist()))


def select_mixtures(
    folder: Path,
    audio: tuple[Path, ...],
    teacher: str,
    *,
    keep_out: tuple[str, ...] = (),
    candidates: int = 10000,
    per_class: int = 6,
    least: float = 0.1,
    only: Sequence[str] = (),
    config: MixtureConfig | None = None,
    seed: int = 0,
    workers: int = 0,
    zoo: Zoo = ZOO,
) -> list[Path]:
    """Draw mixtures, classify them, and write those with the highest scores of each class.

    Args:
        folder: Folder that they are written to, as FLAC.
        audio: Clips to draw from, see `hear_train.data.clips.find_clips`.
        teacher: Name of a network in the zoo.
        keep_out: Patterns of names of clips that are left out.
        candidates: Number of mixtures to draw.
        per_class: Number of mixtures to select for each class.
        least: Probability below which a mixture is not selected for a class.
        only: Labels of the classes to select for; all if empty.
        config: Settings of the mixtures.
        seed: Seed of the mixtures.
        workers: Processes that draw and classify.
        zoo: Networks by name.

    Raises:
        ConfigError: No mixture reaches the probability `least` for any class.
    """
    import soundfile

    network = NetworkTeacher(zoo, (teacher,))
    frontend = zoo[teacher].frontend()
    clips = Clips(find_clips(audio, keep_out, network.labels), frontend.sample_rate)
    for name, why in clips.keep().items():
        _log.warning("%s is left out: %s", name, why)
    drawer = MixtureDrawer(clips, config or MixtureConfig(), seed)
    plain = SpectrogramAugmentation(mel_edges=False)
    preprocess = Preprocessing(frontend, plain, seed, network)
    source = DrawnBatches(drawer, _BATCH, network.classes, preprocess=preprocess)
    steps = range(-(-candidates // _BATCH))
    batches = DataLoader(
        cast("Any", source),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=cast("Any", _scores),
    )
    scores = np.concatenate(list(batches))[:candidates]
    if only:
        scores = scores[:, [network.labels.index(label) for label in only]]
    numbers = best_of_classes(scores, per_class, least)
    if not numbers:
        msg = f"{teacher} gives none of {candidates} mixtures a probability of {least:g} or more"
        raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:07}.flac" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        soundfile.write(path, drawer.draw(number).samples, clips.sample_rate)
    return paths


def _scores(batch: Batch) -> np.ndarray:
    assert batch.teacher is not None  # noqa: S101
    assert batch.teacher.weak is not None  # noqa: S101
    return batch.teacher.weak.numpy()
