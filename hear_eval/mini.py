"""mini-HEAR: three small tasks that show in minutes what nineteen large ones show in days.

| task | kind | clips | what it is of |
|---|---|---|---|
| ``esc10`` | scene, 10 classes, 5 folds | 400 of 5 s | ESC-10 (Piczak, ACM Multimedia 2015) |
| ``spoken_digit`` | scene, 10 classes, 5 folds | 100 of 1 s | HEAR's open task, small |
| ``esc10_events`` | events, 10 classes | 60 scenes of 20 s | ESC-10, mixed in pink noise |

They stand for the sounds of the surroundings, for speech, and for events in time. Scores of so
little data are uncertain by some hundredths: they tell taps and networks apart that differ much.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hear_eval.tasks.description import METADATA, TaskError
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
"""The classes of ESC-10, as ESC-50 calls them."""

SCENES = {"train": 40, "valid": 10, "test": 10}
GRID: Mapping[str, Sequence[object]] = {
    "hidden_layers": [1],
    "hidden_dim": [256],
    "lr": [1e-3, 3.2e-4, 1e-4],
    "max_epochs": [60],
    "check_val_every_n_epoch": [10],
}
"""What is tried on scenes so few. On heareval's own grid they take long, and scores swing."""

_RATE = 32000

Progress = Callable[[int, int], object]


def make_mini(
    folder: Path,
    sounds: Path | None,
    digits: Path | None = None,
    *,
    audio: Path | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Make the tasks that are not there yet.

    Args:
        folder: They become folders in it.
        sounds: Table of ESC-10 or of ESC-50, of which ten classes are taken: the columns
            ``filename``, ``category`` and ``fold``; None leaves its two tasks out.
        digits: The task of spoken digits as HEAR distributes it, a folder or its ``.tar.gz``;
            None leaves it out.
        audio: Folder of the sounds; None is that of the table.
        progress: Called after every file, with how many are written and how many there will be.

    Returns:
        The folders of the tasks.

    Raises:
        TaskError: The table is of other sounds, or `digits` holds no task.
        AudioError: A file cannot be read.
    """
    made = _of_sounds(folder, sounds, audio, progress) if sounds else []
    return [*made, _take(digits, folder)] if digits else made


def _of_sounds(
    folder: Path, sounds: Path, audio: Path | None, progress: Progress | None
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
        msg = f"{sounds} has {len(found)} classes of ESC-10, which has {len(CLASSES)}"
        raise TaskError(msg)
    return recordings


def _in_splits(recordings: list[Recording]) -> list[LabelledClip]:
    """Test on the last fold, validate on the one before, and train on the others."""
    *_, valid, test = sorted({recording.split for recording in recordings})
    splits = {valid: "valid", test: "test"}
    return [LabelledClip(r.path, r.labels[0], splits.get(r.split, "train")) for r in recordings]


def _take(digits: Path, folder: Path) -> Path:
    """Put a task into a folder of tasks, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".digits.", dir=folder) as beside:
        where = digits
        if digits.is_file():
            where = Path(beside)
            with tarfile.open(digits) as archive:
                archive.extractall(where, filter="data")
        tasks = [path.parent for path in sorted(where.glob(f"**/{METADATA}"))]
        if len(tasks) != 1:
            msg = f"{digits} holds {len(tasks)} HEAR tasks; it should be that of spoken digits"
            raise TaskError(msg)
        target = folder / tasks[0].name
        if not target.exists():
            shutil.copytree(tasks[0], Path(beside) / ".whole")
            (Path(beside) / ".whole").rename(target)
    return target
