"""Sounds of one's own with labels, background, and the folds that they are validated in."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError, unknown
from hear_core.io.tables import is_table, read_table
from hear_train.data.clips import is_named
from hear_train.data.datasets import (
    SPLITS,
    LabelledFile,
    read_class_folders,
    read_labelled_table,
    recordings_of,
)
from hear_train.data.hdf5 import is_packed

_log = logging.getLogger(__name__)

TRAINED = -1
"""Fold of clips that are in every training set."""
TESTED = -2
"""Fold of clips that are tested on only."""

BACKGROUND = frozenset({"background", "background_noise", "noise", "negative", "no_event"})
"""Names of classes, in lower case and without underscores around them, that are background."""

_BACKGROUND_LABEL = "background"
_TABLES = ("meta/esc50.csv", "meta/meta.csv", "esc50.csv", "meta.csv", "metadata.csv")
_AUDIO_FOLDERS = ("audio_32k", "audio")
_FOLD = re.compile(r"(?:fold)?[-_ ]?\d+")


class Sounds(NamedTuple):
    """Clips to train a classifier on.

    Attributes:
        labels: Names of the classes, sorted.
        files: The clips; those of background have no labels.
        recordings: Recording that each clip belongs to.
        folds: Fold in which each clip is validated, (clips,), from 0; or `TRAINED` or `TESTED`.
        notes: Remarks on the data for the user, in sentences.
    """

    labels: tuple[str, ...]
    files: list[LabelledFile]
    recordings: list[str]
    folds: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> np.ndarray:
        """Classes of the clips, (clips, classes), float32; all 0 for background."""
        index = {label: number for number, label in enumerate(self.labels)}
        targets = np.zeros((len(self.files), len(self.labels)), np.float32)
        for row, file in zip(targets, self.files, strict=True):
            row[[index[label] for label in file.labels]] = 1
        return targets

    @property
    def background(self) -> np.ndarray:
        """Whether each clip is background, (clips,), bool."""
        return np.array([not file.labels for file in self.files], bool)

    def select(self, kept: np.ndarray) -> Sounds:
        """Return some of the clips, (clips,), bool."""
        rows = np.flatnonzero(kept)
        return self._replace(
            files=[self.files[row] for row in rows],
            recordings=[self.recordings[row] for row in rows],
            folds=self.folds[rows],
        )


def find_sounds(
    data: Path,
    background: Sequence[Path] = (),
    *,
    keep_out: Sequence[str] = (),
    group: str = "",
    folds: int = 5,
    test_fold: int = 0,
    seed: int = 0,
) -> Sounds:
    """Find clips with labels and background, and divide them into folds.

    Clips of one recording are in one fold, see `hear_train.data.datasets.recordings`. Classes of
    the names in `BACKGROUND`, such as a folder ``noise`` or ``_background_noise_``, are background.

    Args:
        data: Folder with a folder per class, or such folders in ``train``, ``valid`` and ``test``;
            folder with a table, laid out as ESC-50; or a table, see
            `hear_train.data.datasets.read_labelled_table`.
        background: Folders and files of background, which holds none of the classes.
        keep_out: Patterns of names of clips that are left out.
        group: Regular expression that finds the recording in the name of a clip.
        folds: Number of folds, where the data do not have folds or splits.
        test_fold: Numbered fold of the data that is tested on only; 0 validates in all of them.
        seed: Seed of the folds.

    Raises:
        ConfigError: A path does not exist or has another layout; a file of a table is missing or
            lacks a label; there are fewer than two classes, or too few folds.
    """
    named = _labelled_files(data)
    files = [_without_background(file) for file in named] + _background_files(background, named)
    files = [file for file in files if not any(is_named(file.name, out) for out in keep_out)]
    labels = tuple(sorted({label for file in files for label in file.labels}))
    if not labels or (len(labels) < 2 and all(file.labels for file in files)):
        msg = (
            f"{data} has {len(labels)} classes, and a classifier needs two, or one and background: "
            "make a folder for each class, or give --background"
        )
        raise ConfigError(msg)
    # Apart, as the names of background may be counted where those of clips tell recordings.
    belongs = ["" for _ in files]
    for is_background in (False, True):
        rows = [row for row, file in enumerate(files) if (not file.labels) == is_background]
        for row, name in zip(rows, recordings_of([files[row] for row in rows], group), strict=True):
            belongs[row] = name
    numbers, notes = _assign_folds(files, belongs, data, folds, test_fold, seed)
    return Sounds(labels, files, belongs, numbers, tuple(notes))


def _labelled_files(data: Path) -> list[LabelledFile]:
    """Return the files of a folder or table, of which those of a table exist and have labels."""
    if not data.exists():
        msg = f"{data} does not exist"
        raise ConfigError(msg)
    if is_packed(data) or (data.is_file() and not is_table(data)):
        msg = f"{data} must be a folder or a table (.csv, .tsv)"
        raise ConfigError(msg)
    tables = [data] if data.is_file() else [data / name for name in _TABLES]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        files = read_class_folders(data)
        if not files:
            msg = f"there are no audio files in {data}: put those of each class into a folder"
            raise ConfigError(msg)
        return files
    folders = [data / name for name in _AUDIO_FOLDERS] if data.is_dir() else []
    files = read_labelled_table(table, next((f for f in folders if f.is_dir()), None))
    for file in files:
        if not file.labels:
            msg = f"{_place(table, file)} does not have a label: write 'background' for no class"
            raise ConfigError(msg)
        if not file.path.is_file():
            missing = sum(not each.path.is_file() for each in files)
            msg = (
                f"{_place(table, file)} does not exist as {file.path}; {missing} of the "
                f"{len(files)} files of the table are missing: correct the paths, which are "
                "relative to the table, or remove the lines"
            )
            raise ConfigError(msg)
    return files


def _place(table: Path, file: LabelledFile) -> str:
    """Return the table, line and name of a file."""
    for line, row in read_table(table):
        if any(Path(cell.strip()).as_posix() == file.name for cell in row.values()):
            return f"{table}, line {line}: {file.name}"
    return f"{table}: {file.name}"


def _without_background(file: LabelledFile) -> LabelledFile:
    return file._replace(labels=tuple(label for label in file.labels if not _is_background(label)))


def _is_background(label: str) -> bool:
    return re.sub(r"[\s-]+", "_", label.casefold()).strip("_") in BACKGROUND


def _background_files(
    background: Sequence[Path], named: Sequence[LabelledFile]
) -> list[LabelledFile]:
    files, known = list[LabelledFile](), {file.path.resolve(): file.name for file in named}
    names = {file.name for file in named}
    for given in background:
        found = find_audio_files([given]).sources
        if not found:
            msg = f"there are no audio files in {given}, which is given as background"
            raise ConfigError(msg)
        for path, name in found:
            if path.resolve() in known:
                msg = (
                    f"{path} is given twice: as {known[path.resolve()]} and as background; keep "
                    "the background outside the data, or in a folder called background"
                )
                raise ConfigError(msg)
            full = f"{_BACKGROUND_LABEL}/{name}"
            if full in names:
                msg = f"two clips would be called {full}: rename {path}"
                raise ConfigError(msg)
            names.add(full)
            known[path.resolve()] = full
            files.append(LabelledFile(path, full, ()))
    return files


def _assign_folds(
    files: Sequence[LabelledFile],
    belongs: Sequence[str],
    data: Path,
    folds: int,
    test_fold: int,
    seed: int,
) -> tuple[np.ndarray, list[str]]:
    """Return the fold of every clip, and remarks."""
    splits = [file.split.lower() for file in files]
    # Background that is given on its own does not have a split, and is dealt to those of the data.
    loose = np.array([not (file.labels or file.split) for file in files], bool)
    known = {split for split, own in zip(splits, loose, strict=True) if not own}
    if not any(known):
        if test_fold:
            msg = f"{data} does not have numbered folds, so that {test_fold} is not one of them"
            raise ConfigError(msg)
        return _deal(files, belongs, folds, seed)
    if "" in known:
        without = next(f.name for f, own in zip(files, loose, strict=True) if not (own or f.split))
        msg = f"{data}: {without} is not in a fold or split, but others are: fill in the cell"
        raise ConfigError(msg)
    numbered = all(map(_FOLD.fullmatch, known))
    places = (_numbered if numbered else _named)(known, data, test_fold)
    numbers, notes = np.array([places.get(split, TRAINED) for split in splits]), list[str]()
    if not any(place >= 0 for place in places.values()):  # validated within the training set
        rows = np.flatnonzero((numbers == TRAINED) & ~loose).tolist()
        own = [files[row] for row in rows], [belongs[row] for row in rows]
        numbers[rows], notes = _deal(*own, folds, seed)
    found = sorted(set(numbers[~loose].tolist()), reverse=True)
    cycle = [place for place in found if place != TRAINED]
    if numbered or len(cycle) > 2:
        numbers[loose] = np.resize(cycle, int(loose.sum()))
    else:
        numbers[loose] = np.resize([*[TRAINED] * 3, *cycle], int(loose.sum()))
    return numbers, notes


def _numbered(splits: set[str], data: Path, test_fold: int) -> Mapping[str, int]:
    """Return the place of each numbered fold."""
    numbers = {split: int("".join(filter(str.isdecimal, split))) for split in splits}
    if test_fold and test_fold not in numbers.values():
        shown = sorted(set(numbers.values()))
        msg = f"there is no clip in fold {test_fold} of {data}; the folds are {shown}"
        raise ConfigError(msg)
    validated = sorted(set(numbers.values()) - {test_fold})
    if len(validated) < 2:
        msg = (
            f"{data} has the folds {sorted(set(numbers.values()))}, and two are needed besides one "
            "that is tested on: add folds, or leave out the column"
        )
        raise ConfigError(msg)
    return {
        split: TESTED if number == test_fold else validated.index(number)
        for split, number in numbers.items()
    }


def _named(splits: set[str], data: Path, test_fold: int) -> Mapping[str, int]:
    """Return the place of each named split."""
    if test_fold:
        msg = f"{data} has the splits {', '.join(sorted(splits))}, not the fold {test_fold}"
        raise ConfigError(msg)
    places = {"train": TRAINED, "valid": 0, "test": TESTED}
    by_name = {name: places[kind] for kind, names in SPLITS.items() for name in names}
    for split in sorted(splits - set(by_name)):
        raise ConfigError(f"{data}: " + unknown("split", split, by_name))
    found = {split: by_name[split] for split in splits}
    if TRAINED not in found.values():
        msg = f"{data} does not have the split train; it has {', '.join(sorted(splits))}"
        raise ConfigError(msg)
    return found


def _deal(
    files: Sequence[LabelledFile], belongs: Sequence[str], folds: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Deal recordings to folds so that each has about the same share of every class."""
    rng = np.random.default_rng(seed)
    by_class: dict[str, dict[str, None]] = defaultdict(dict)
    for file, recording in zip(files, belongs, strict=True):
        for label in file.labels or (_BACKGROUND_LABEL,):
            by_class[label][recording] = None
    given: dict[str, int] = {}
    notes, totals = list[str](), Counter[int]()
    for label in sorted(by_class, key=lambda label: (len(by_class[label]), label)):
        members = list(by_class[label])
        if len(members) < 2:
            notes.append(
                f"{label} has a single recording: it is trained on, but not evaluated. Add clips "
                "of other recordings."
            )
            given.setdefault(members[0], TRAINED)
            continue
        counts = Counter(given[member] for member in members if member in given)
        for index in rng.permutation(len(members)).tolist():
            if members[index] not in given:
                fold = min(range(folds), key=lambda fold: (counts[fold], totals[fold], fold))
                given[members[index]] = fold
                counts[fold] += 1
                totals[fold] += 1
    used = sorted(set(given.values()) - {TRAINED})
    if not used:
        msg = (
            "no class has two recordings, so that nothing can be validated: add clips, or set "
            "group to a regular expression that tells recordings apart"
        )
        raise ConfigError(msg)
    return np.array([used.index(n) if n in used else n for n in map(given.get, belongs)]), notes


def few_recordings(sounds: Sounds, least: int = 5) -> Iterable[str]:
    """Yield a remark on every class with fewer than `least` recordings."""
    belongs: dict[str, set[str]] = defaultdict(set)
    for file, recording in zip(sounds.files, sounds.recordings, strict=True):
        for label in file.labels:
            belongs[label].add(recording)
    for label in sounds.labels:
        if 1 < len(belongs[label]) < least:
            yield f"{label} has {len(belongs[label])} recordings: its numbers say little."
