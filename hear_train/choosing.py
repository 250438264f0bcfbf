"""Sounds that a teacher has something to say of, chosen of many: clips for a later training.

Of random sounds, most are speech, music, animals or noise to a teacher. Choosing the same number
for every class makes more of those classes that few sounds come near to.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from hear_core.errors import ConfigError
from hear_core.zoo.registry import Zoo
from hear_mn.zoo import ZOO
from hear_train.clips import Clips, find
from hear_train.lessons import Blur, Lessons, Listening
from hear_train.mixing import Mixer, Mixing
from hear_train.teachers import Teacher

_log = logging.getLogger(__name__)

_BATCH = 32


def best_of_classes(scores: np.ndarray, per_class: int, least: float) -> list[int]:
    """Return the rows that are among the highest of a class, in their order.

    Args:
        scores: Probabilities (sounds, classes).
        per_class: So many of each class.
        least: Probability below which a sound is none of a class.
    """
    order = np.argsort(-scores, axis=0, kind="stable")[:per_class]
    high = np.take_along_axis(scores, order, 0) >= least
    return sorted(set(order[high].tolist()))


def choose(
    folder: Path,
    audio: tuple[Path, ...],
    teacher: str,
    *,
    keep_out: tuple[str, ...] = (),
    candidates: int = 10000,
    per_class: int = 6,
    least: float = 0.1,
    only: Sequence[str] = (),
    mixing: Mixing | None = None,
    seed: int = 0,
    workers: int = 0,
    zoo: Zoo = ZOO,
) -> list[Path]:
    """Draw sounds, let a teacher hear them, and write those that are the best of a class.

    Args:
        folder: Where they are written, as FLAC.
        audio: Clips to draw from, see `hear_train.clips.find`.
        teacher: A network of the zoo.
        keep_out: Patterns of the names of clips that are left out.
        candidates: Sounds to hear.
        per_class: Sounds to choose of each class.
        least: Probability below which a sound is none of a class.
        only: Labels of the classes to choose for; all if there are none.
        mixing: How sounds are drawn.
        seed: Another seed draws others.
        workers: Processes that draw and hear.
        zoo: Where the teacher stands.

    Raises:
        ConfigError: The teacher gives no sound the least probability of anything.
    """
    import soundfile

    row, network = zoo[teacher], Teacher(zoo, teacher)
    clips = Clips(find(audio, keep_out, row.labels), network.frontend.sample_rate)
    for name, why in clips.keep().items():
        _log.warning("%s is left out: %s", name, why)
    mixer = Mixer(clips, mixing or Mixing(), seed)
    listening = Listening(network.frontend, network, Blur(edges=False), seed)
    lessons = Lessons(mixer, _BATCH, network.classes, listening=listening)
    steps = range(-(-candidates // _BATCH))
    heard = DataLoader(lessons, batch_size=None, sampler=steps, num_workers=workers)
    scores = np.concatenate([lesson.soft.numpy() for lesson in heard])[:candidates]
    if only:
        scores = scores[:, [row.labels.index(label) for label in only]]
    numbers = best_of_classes(scores, per_class, least)
    if not numbers:
        msg = f"{teacher} gives no class {least:g} or more in any of {candidates} sounds"
        raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:07}.flac" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        soundfile.write(path, mixer.draw(number).samples, clips.sample_rate)
    return paths
