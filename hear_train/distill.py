"""Distillation: what a run is made of, and its beginning and end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from hear_core.backbone import Backbone
from hear_core.errors import ConfigError
from hear_core.frontend import Frontend
from hear_core.zoo import Zoo
from hear_mn.zoo import ZOO
from hear_train.clips import Clips, find, is_packed
from hear_train.lessons import Blur, Lessons, Listening
from hear_train.losses import Distillation, Weights, start_at
from hear_train.mixing import Mixer, Mixing
from hear_train.teachers import StoredTeacher, Teacher, repeated
from hear_train.trainer import Plan, Trainer, last_state

_log = logging.getLogger(__name__)

_SURVEY = 4  # lessons that the teacher's mean is taken of


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


class Run:
    """A distillation in a folder, new or going on.

    Args:
        recipe: What it is made of.
        folder: Where it lives.
        accelerator: Device, precision and processes.
        model_file_path: Weights of the teacher; the released ones if there is no path.
        pretrained: If False, the teacher has random weights, which is good for tests only.
        start: Weights that the student starts from; else it is untrained.
        workers: Processes that make lessons.
        logs: More logs than the CSV file.
        zoo: Where student and teacher stand.

    Attributes:
        student: What learns.
        dropped: Why clips were left out at the beginning, by name.

    Raises:
        ConfigError: The recipe means nothing, or the folder has another run.
        CheckpointError: The teacher's weights cannot be had.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        accelerator: Accelerator,
        *,
        model_file_path: str | Path = "",
        pretrained: bool = True,
        start: str | Path = "",
        workers: int = 0,
        logs: Sequence[str] = (),
        zoo: Zoo = ZOO,
    ) -> None:
        name = recipe.student if recipe.student in zoo else f"{recipe.student}_as"
        frontend, seed = zoo[name].frontend(), recipe.plan.seed
        _check(recipe, frontend)
        self.student = _student(zoo, name, start, recipe)
        teacher = stored = None
        if recipe.predictions:
            stored = StoredTeacher(recipe.predictions)
        else:
            teacher = Teacher(
                zoo, recipe.teacher, model_file_path, recipe.match, pretrained=pretrained
            )
        classes = (stored or teacher).classes  # type: ignore[union-attr]  # there is one of them
        if classes != self.student.tap_shapes["logits"].channels:
            msg = f"{name} does not have the {classes} classes of its teacher"
            raise ConfigError(msg)
        clips, self.dropped = _clips(recipe, zoo[name].labels, frontend.sample_rate, stored)

        listening = Listening(frontend, teacher, recipe.blur, seed, shuffled=recipe.shuffled)
        # On a CPU, workers hear the lessons as well, so that all cores have something to do.
        here = workers > 0 and accelerator.device.type == "cpu"
        lessons = Lessons(
            Mixer(clips, recipe.mixing, seed),
            recipe.batch,
            classes,
            stored,
            listening if here else None,
            accelerator.process_index,
            accelerator.num_processes,
        )
        if not start and last_state(folder) is None:
            _introduce(self.student, lessons, None if here else listening)
        taps = {tap: teacher.network.tap_shapes[tap].channels for tap in recipe.match if teacher}
        weights = {"start": start, "model": model_file_path, "pretrained": pretrained}
        self.trainer = Trainer(
            Distillation(self.student, recipe.weights, taps),
            lessons,
            recipe.plan,
            folder,
            accelerator,
            listening=None if here else listening,
            workers=workers,
            logs=logs,
            settings=_as_json(asdict(recipe)) | {key: _mark(of) for key, of in weights.items()},
        )
        self.folder = folder

    def run(self, report: Callable[[int, Mapping[str, float]], None] | None = None) -> Path:
        """Train, and return the file of the student's weights, ``student.safetensors``.

        Args:
            report: Called after every step with its number and the terms of its loss.
        """
        self.trainer.run(report)
        target = self.folder / "student.safetensors"
        if self.trainer.accelerator.is_main_process:
            save(self.student, target)
        return target


def save(network: nn.Module, target: Path, *, half: bool = True) -> None:
    """Write weights as safetensors, in float16 unless told otherwise; they are read as float32."""
    from safetensors.torch import save_file

    state = {
        key: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for key, tensor in network.state_dict().items()
    }
    part = target.with_suffix(".part")
    save_file(state, part)
    part.replace(target)


def _check(recipe: Recipe, frontend: Frontend) -> None:
    """Check what a recipe says, before anything is read."""
    if bool(recipe.teacher) == bool(recipe.predictions):
        msg = "a student learns of a teacher or of a file of predictions: give one of the two"
        raise ConfigError(msg)
    if recipe.predictions and (recipe.mixing.strength or recipe.mixing.synthetic):
        msg = (
            "stored predictions are of clips as they are: set mixing's strength and synthetic "
            "to 0, or take a teacher that hears what the student hears"
        )
        raise ConfigError(msg)
    if recipe.predictions and recipe.match:
        msg = f"a file of predictions has no tap {recipe.match[0]} to match; a teacher has"
        raise ConfigError(msg)
    if recipe.batch < 2:
        msg = f"a batch of {recipe.batch} has no variance to normalise by; two sounds are the least"
        raise ConfigError(msg)
    if recipe.mixing.seconds * frontend.sample_rate < frontend.min_samples:
        least = frontend.min_samples / frontend.sample_rate
        msg = f"sounds of {recipe.mixing.seconds:g} s are too short; {least:.3f} s are the least"
        raise ConfigError(msg)


def _clips(
    recipe: Recipe, labels: Sequence[str], sample_rate: int, stored: StoredTeacher | None
) -> tuple[Clips, dict[str, str]]:
    """Find clips, and return those that can be learned from, and why others cannot."""
    found = find(recipe.audio, recipe.keep_out, labels)
    dropped = {}
    if stored is not None:
        known = [clip for clip in found if clip.name in stored]
        if found and not known:
            msg = (
                f"none of {len(found)} clips, such as {found[0].name}, has a row in "
                f"{recipe.predictions}, whose rows are called like {next(iter(stored), 'nothing')}"
            )
            raise ConfigError(msg)
        if twins := repeated(clip.name for clip in known):
            msg = (
                f"several clips are called {twins[0]}, apart from folders and endings, so that it "
                f"is not said which of them a row of {recipe.predictions} is of"
            )
            raise ConfigError(msg)
        why = "the teacher has no row for it"
        dropped = {clip.name: why for clip in found if clip.name not in stored}
        found = known
    clips = Clips(found, sample_rate)
    in_memory = recipe.in_memory
    if in_memory is None:
        in_memory = not any(map(is_packed, recipe.audio))
    if in_memory:
        dropped |= clips.keep()
    for name, why in dropped.items():
        _log.warning("%s is left out: %s", name, why)
    return clips, dropped


def _student(zoo: Zoo, name: str, start: str | Path, recipe: Recipe) -> Backbone:
    network = zoo.load(name, start) if start else zoo.untrained(name, seed=recipe.plan.seed)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = recipe.dropout
    return network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def _introduce(student: Backbone, lessons: Lessons, listening: Listening | None) -> None:
    """Let a student start at what the teacher says on average."""
    numbers = range(10**9, 10**9 + _SURVEY)  # of no step
    first = [
        lessons[number] if listening is None else listening(lessons[number]) for number in numbers
    ]
    soft = torch.cat([lesson.soft for lesson in first]).clamp(1e-5, 1 - 1e-5)
    start_at(student, soft.nanmean(0).logit())


def _mark(value: str | Path | bool) -> str | bool:
    """Return what tells weights in a file from others."""
    if isinstance(value, bool) or not str(value):
        return value if isinstance(value, bool) else ""
    return hashlib.sha256(Path(value).read_bytes()).hexdigest()


def _as_json(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
