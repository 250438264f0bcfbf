"""The recipe of a distillation: all that its result depends on, as data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import Frontend
from hear_train.clips import is_packed
from hear_train.lessons import Blur
from hear_train.losses import Weights
from hear_train.mixing import Mixing
from hear_train.trainer import Plan


@dataclass(frozen=True)
class Recipe:
    """What a distillation depends on.

    Args:
        student: A backbone, or a size such as ``mn01`` for that of ``mn01_as``.
        audio: Where the clips are, see `hear_train.clips.find`.
        teacher: A backbone that hears what the student hears.
        predictions: A file of predictions in its place, see `StoredTeacher`.
        keep_out: Patterns of the names of clips that are left out.
        batch: Sounds of a lesson, in each process.
        weights: Of the terms of the loss.
        match: Taps of the teacher that the student's are matched with.
        mixing: How sounds are drawn.
        blur: What is done to log-mels.
        plan: How long and how fast to learn.
        dropout: Of the student.
        shuffled: Give every sound what the teacher says of another one: a control.
        in_memory: Read all clips once, before training; else each when its turn comes. None does
            so unless there is HDF5 among them, which may hold weeks of audio.
    """

    student: str
    audio: tuple[Path, ...]
    teacher: str = ""
    predictions: Path | None = None
    keep_out: tuple[str, ...] = ()
    batch: int = 32
    weights: Weights = field(default_factory=Weights)
    match: tuple[str, ...] = ()
    mixing: Mixing = field(default_factory=Mixing)
    blur: Blur = field(default_factory=Blur)
    plan: Plan = field(default_factory=Plan)
    dropout: float = 0.0
    shuffled: bool = False
    in_memory: bool | None = None

    @property
    def reads_first(self) -> bool:
        """Whether clips are read before training."""
        if self.in_memory is None:
            return not any(map(is_packed, self.audio))
        return self.in_memory

    def check(self, frontend: Frontend) -> None:
        """Check that it means something to a student with a front-end, before anything is read.

        Raises:
            ConfigError: It does not.
        """
        if bool(self.teacher) == bool(self.predictions):
            msg = "a student learns of a teacher or of a file of predictions: give one of the two"
            raise ConfigError(msg)
        if self.predictions and (self.mixing.strength or self.mixing.synthetic):
            msg = (
                "stored predictions are of clips as they are: set mixing's strength and synthetic "
                "to 0, or take a teacher that hears what the student hears"
            )
            raise ConfigError(msg)
        if self.predictions and self.match:
            msg = f"a file of predictions has no tap {self.match[0]} to match; a teacher has"
            raise ConfigError(msg)
        if self.batch < 2:
            msg = f"a batch of {self.batch} has no variance to divide by; two sounds are the least"
            raise ConfigError(msg)
        if self.mixing.seconds * frontend.sample_rate < frontend.min_samples:
            least = frontend.min_samples / frontend.sample_rate
            msg = f"sounds of {self.mixing.seconds:g} s are too short; {least:.3f} s are the least"
            raise ConfigError(msg)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return found
