"""Distillation: what a run is made of, and its beginning and end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_core.zoo.registry import Zoo
from hear_mn.zoo import ZOO
from hear_train.clips import Clips, find
from hear_train.lessons import Lessons, Listening
from hear_train.losses import Distillation, start_at
from hear_train.mixing import Mixer
from hear_train.recipe import Recipe
from hear_train.teachers import StoredTeacher, Teacher
from hear_train.trainer import Trainer, last_state

_log = logging.getLogger(__name__)

_SURVEY = 4  # lessons that the teacher's mean is taken of


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
        recipe.check(frontend)
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
        weights = {"start": _checksum(start), "model": _checksum(model_file_path)}
        self.trainer = Trainer(
            Distillation(self.student, recipe.weights, taps),
            lessons,
            recipe.plan,
            folder,
            accelerator,
            listening=None if here else listening,
            workers=workers,
            logs=logs,
            settings={**recipe.as_json(), **weights, "pretrained": pretrained},
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


def _clips(
    recipe: Recipe, labels: Sequence[str], sample_rate: int, stored: StoredTeacher | None
) -> tuple[Clips, dict[str, str]]:
    """Find clips, and return those that can be learned from, and why others cannot."""
    found, dropped = find(recipe.audio, recipe.keep_out, labels), {}
    if stored is not None:
        known = stored.of([clip.name for clip in found])
        without = {clip.name for clip in found} - known
        dropped = dict.fromkeys(sorted(without), "the teacher has no row for it")
        found = [clip for clip in found if clip.name in known]
    clips = Clips(found, sample_rate)
    if recipe.reads_first:
        dropped |= clips.keep()
    for name, why in dropped.items():
        _log.warning("%s is left out: %s", name, why)
    return clips, dropped


def _student(zoo: Zoo, name: str, start: str | Path, recipe: Recipe) -> Backbone:
    network = zoo.load(name, start) if start else zoo.random_init(name, seed=recipe.plan.seed)
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


def _checksum(weights: str | Path) -> str:
    """Return what tells weights in a file from others; nothing of no file."""
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest() if str(weights) else ""
