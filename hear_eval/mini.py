"""mini-HEAR: three small tasks that take minutes, where the nineteen of HEAR take days.

| task | kind | clips | source |
|---|---|---|---|
| ``esc10`` | scene, 10 classes, 5 folds | 400 of 5 s | ESC-10 (Piczak, ACM Multimedia 2015) |
| ``spoken_digit`` | scene, 10 classes, 5 folds | 100 of 1 s | HEAR's open task, small |
| ``esc10_events`` | events, 10 classes | 60 scenes of 20 s | ESC-10, mixed in pink noise |

They cover environmental sounds, speech, and events in time. Scores on so little data are uncertain
by some hundredths: they distinguish taps and networks that differ much.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hear_eval.tasks.description import TaskError, task_folders_below
from hear_eval.tasks.making import make_task
from hear_eval.tasks.mixing import LabelledClip, mix_event_task
from hear_eval.tasks.recordings import Recording, read_recording_table

CLASSES = {
    "chainsaw",
    "clock_tick",
    "crackling_fire",
    "crying_baby",
    "dog",
    "helicopter",
    "rain",
    "rooster",
    "sea_waves",
    "sneezing",
}
"""Names of the classes of ESC-10 in ESC-50."""

SCENES = {"train": 40, "valid": 10, "test": 10}
GRID: Mapping[str, Sequence[object]] = {
    "hidden_layers": [1],
    "hidden_dim": [256],
    "lr": [1e-3, 3.2e-4, 1e-4],
    "max_epochs": [60],
    "check_val_every_n_epoch": [10],
}
"""Hyperparameters for so few scenes. With heareval's own grid, training is slow and unstable."""

_RATE = 32000

OnFile = Callable[[int, int], object]


def make_mini(
    folder: Path,
    sounds: Path | None,
    digits: Path | None = None,
    *,
    audio: Path | None = None,
    progress: OnFile | None = None,
) -> list[Path]:
    """Make the tasks of mini-HEAR that are not in a folder yet.

    Args:
        folder: Folder in which the folders of the tasks are made.
        sounds: Table of ESC-10, or of ESC-50, of which ten classes are used, with the columns
            ``filename``, ``category`` and ``fold``; None leaves its two tasks out.
        digits: The task of spoken digits that HEAR distributes, as a folder or a ``.tar.gz``; None
            leaves it out.
        audio: Folder of the audio files of the table; None is the folder of the table.
        progress: Called after every file with the number of files written and of all files.

    Returns:
        The folders of the tasks.

    Raises:
        TaskError: The table does not have the classes of ESC-10, or `digits` is not one task.
        AudioError: A file cannot be read.
        FileError: A file cannot be written.
    """
    made = _of_sounds(folder, sounds, audio, progress) if sounds else []
    return [*made, _take(digits, folder)] if digits else made


def _of_sounds(
    folder: Path, sounds: Path, audio: Path | None, progress: OnFile | None
) -> list[Path]:
    recordings = _ten_classes(read_recording_table(sounds, audio), sounds)
    made = [folder / "esc10", folder / "esc10_events"]
    if not made[0].is_dir():
        make_task(
            folder,
            "esc10",
            recordings,
            "multiclass",
            seconds=5.0,
            sample_rates=[_RATE],
            progress=progress,
        )
    if not made[1].is_dir():
        clips = _in_splits(recordings)
        mix_event_task(folder, "esc10_events", clips, SCENES, progress=progress, grid=GRID)
    return made


def _ten_classes(recordings: list[Recording], sounds: Path) -> list[Recording]:
    found = {label for recording in recordings for label in recording.labels}
    if len(found) > len(CLASSES):
        recordings = [r for r in recordings if CLASSES & set(r.labels)]
        found &= CLASSES
    if len(found) != len(CLASSES):
        msg = f"{sounds} has {len(found)} of the {len(CLASSES)} classes of ESC-10"
        raise TaskError(msg)
    return recordings


def _in_splits(recordings: list[Recording]) -> list[LabelledClip]:
    """Return clips to mix: the last fold tests, the one before it validates, the others train."""
    *_, valid, test = sorted({recording.split for recording in recordings})
    splits = {valid: "valid", test: "test"}
    return [LabelledClip(r.path, r.labels[0], splits.get(r.split, "train")) for r in recordings]


def _take(digits: Path, folder: Path) -> Path:
    """Copy a task into a folder of tasks, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".digits.", dir=folder) as beside:
        where = digits
        if digits.is_file():
            where = Path(beside)
            try:
                with tarfile.open(digits) as archive:
                    archive.extractall(where, filter="data")
            except (tarfile.TarError, EOFError, zlib.error) as error:
                msg = f"{digits} cannot be extracted: {error}"
                raise TaskError(msg) from error
        tasks = task_folders_below(where)
        if len(tasks) != 1:
            msg = f"{digits} has {len(tasks)} HEAR tasks; it must be the task of spoken digits"
            raise TaskError(msg)
        target = folder / tasks[0].name
        if not target.exists():
            shutil.copytree(tasks[0], Path(beside) / ".whole")
            (Path(beside) / ".whole").rename(target)
    return target
