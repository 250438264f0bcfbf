"""Data sets with labels and splits: folders, tables, HDF5, HEAR tasks, and published data sets.

Every format is a function in `FORMATS` that finds the clips of a data set below a path, as it is
published or as PaSST packs it. No audio is read.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError, unknown
from hear_core.io.json_files import read_json
from hear_core.io.tables import is_table, read_table
from hear_core.zoo.labels import audioset_labels
from hear_train.data.clips import Clip, file_clip, find_clips, leave_out, packed_clips
from hear_train.data.hdf5 import is_packed, packed_labels, read_splits
from hear_train.data.panns import find_indexes, panns_labels

_log = logging.getLogger(__name__)

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": ("filename", "file", "fname", "path", "sample_key"),
    "label": ("category", "label", "labels", "class", "scene_label", "event_label"),
    "split": ("split", "fold", "set"),
    "group": ("group", "recording", "source", "src_file"),
}
_SEVERAL_PATHS = ("clips", "audioset", "audioset_strong")
_TRAIN = {"train", "training", "dev"}
_VALID = {"valid", "validation", "val"}
_TEST = {"test", "testing", "eval", "evaluation"}
SPLITS: Mapping[str, set[str]] = {"train": _TRAIN, "valid": _VALID, "test": _TEST}
"""Names that splits have in tables and folders, in lower case."""
_SEPARATORS = re.compile(r"[;|]")
_PRESENT = 0.5  # relevance from which EfficientAT counts an instrument of OpenMIC as present
# A number or letter at the end of a name counts the clips that were cut from one recording.
_PART = re.compile(r"(?:[-_. ](?:\d{1,4}|[A-Za-z])|\s*\(\d+\))$")


@dataclass(frozen=True)
class DataConfig:
    """Settings of the data.

    Args:
        format: A key of `FORMATS`.
        keep_out: Patterns of names of clips that are left out, such as ``5-*``.
        fold: Fold that is tested on, for data sets with numbered folds.
        test_share: Share of the recordings that are tested on, where a data set has no splits.
        group: Regular expression: what it finds in a clip's name is the recording that it belongs
            to, and clips of one recording stay in one split. By default a table's column
            ``group``, ``recording`` or ``source`` is used, or the name without a part number.
        seconds: Length of a clip in training and evaluation; 0 evaluates clips at their length.
        variable: Leave clips that are shorter than `seconds` at their length: a batch is padded to
            its longest clip, and the network averages over the frames of each clip only. Clips are
            evaluated at their length.
        batch_size: Clips of a batch, in each process.
        sampler: A key of `hear_train.data.samplers.SAMPLERS`.
        epoch_length: Clips of an epoch; 0 is all of them.
        replacement: Whether a clip can be drawn several times in an epoch.
        in_memory: Whether to read all clips before training; None does so unless there are more
            than 5000 of them or HDF5 files.
        cache: Folder for resampled waveforms; empty keeps none.
        seed: Seed of the split where a data set has none.
        labels: Table of the events of recordings, or folder of such tables; empty if they are
            where the format expects them.
        encoding: Encoding of events as frames, a key of `hear_train.data.encoding.ENCODINGS`.
        around_events: Probability that a recording longer than `seconds` is cropped around an
            event, rather than anywhere.
    """

    format: str = "folder"
    keep_out: tuple[str, ...] = ()
    fold: int = 1
    test_share: float = 0.2
    group: str = ""
    seconds: float = 10.0
    variable: bool = False
    batch_size: int = 32
    sampler: str = "uniform"
    epoch_length: int = 0
    replacement: bool = False
    in_memory: bool | None = None
    cache: str = ""
    seed: int = 0
    labels: str = ""
    encoding: str = "cover"
    around_events: float = 0.0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(unknown("data format", self.format, FORMATS))
        if self.batch_size < 2:
            msg = (
                f"data.batch_size is {self.batch_size}; batch normalisation needs at least two "
                "clips in a batch"
            )
            raise ConfigError(msg)
        if not 0 < self.test_share < 1 or self.seconds < 0 or self.epoch_length < 0:
            msg = (
                "data needs test_share between 0 and 1, and seconds and epoch_length of 0 or "
                f"more, not {self.test_share}, {self.seconds} and {self.epoch_length}"
            )
            raise ConfigError(msg)
        if not 0 <= self.around_events <= 1:
            msg = f"data.around_events is a probability, and cannot be {self.around_events}"
            raise ConfigError(msg)


class Dataset(NamedTuple):
    """Clips in splits.

    Attributes:
        labels: Names of the classes.
        train: Clips to train on.
        valid: Clips to validate on; those of `test` if the data set has no such split.
        test: Clips to test on.
    """

    labels: tuple[str, ...]
    train: list[Clip]
    valid: list[Clip]
    test: list[Clip]

    def split(self, name: str) -> list[Clip]:
        """Return a split by its name.

        Raises:
            ConfigError: The name is unknown, or the split has no clips.
        """
        if name not in SPLITS:
            raise ConfigError(unknown("split", name, SPLITS))
        clips: list[Clip] = getattr(self, name) or (self.test if name == "valid" else [])
        if not clips:
            msg = f"the data set does not have clips in the split {name}"
            raise ConfigError(msg)
        return clips


class LabelledFile(NamedTuple):
    """An audio file with its labels.

    Attributes:
        path: The file.
        name: Its name, relative to the data set.
        labels: Its classes.
        split: Name or number of its split; empty if there is none.
        group: Recording that it belongs to; empty if that is not known.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    split: str = ""
    group: str = ""


def open_dataset(paths: Sequence[Path], config: DataConfig) -> Dataset:
    """Return the clips of a data set.

    Args:
        paths: Paths of the data set. Only ``clips`` and the formats of AudioSet take several.
        config: Settings.

    Raises:
        ConfigError: A path does not exist, or what is there does not have the format.
    """
    for path in paths:
        if not path.exists():
            msg = f"{path} does not exist"
            raise ConfigError(msg)
    if not paths or (len(paths) > 1 and config.format not in _SEVERAL_PATHS):
        msg = f"the data format {config.format} needs one path of data, not {len(paths)}"
        raise ConfigError(msg)
    found = FORMATS[config.format](list(paths), config)
    splits = [
        leave_out(clips, config.keep_out) if clips else clips
        for clips in (found.train, found.valid, found.test)
    ]
    dataset = Dataset(found.labels, *splits)
    if not dataset.train and not dataset.test:
        msg = f"there are no clips in {', '.join(map(str, paths))}"
        raise ConfigError(msg)
    return dataset


def read_labelled_table(table: Path, audio: Path | None = None) -> list[LabelledFile]:
    """Read the files and labels of a table, see `hear_core.io.tables.read_table`.

    Columns have common names, in upper or lower case: ``filename``, ``file``, ``fname`` or
    ``path``; ``category``, ``label`` or ``labels``, separated by ``;``; optionally ``fold`` or
    ``split``, and ``group``, ``recording`` or ``source``. A file may have several rows.

    Args:
        table: The table.
        audio: Folder that names are relative to; None is that of the table.

    Raises:
        ConfigError: A column or cell is missing, or a file is in two splits.
    """
    rows = read_table(table)
    if not rows:
        msg = f"{table} has no rows"
        raise ConfigError(msg)
    there = {column.strip().lower(): column for column in rows[0][1]}
    columns = {}
    for kind, names in _COLUMNS.items():
        found = next((there[name] for name in names if name in there), None)
        if found is None and kind in ("file", "label"):
            msg = (
                f"{table} needs a column of {kind}s, called {', '.join(names)}; it has "
                f"{', '.join(there)}"
            )
            raise ConfigError(msg)
        columns[kind] = found
    folder, files = audio or table.parent, dict[str, LabelledFile]()
    for line, row in rows:
        cells = {kind: (row[column] or "").strip() for kind, column in columns.items() if column}
        if not cells["file"]:
            msg = f"{table}, line {line}, does not have a {columns['file']}"
            raise ConfigError(msg)
        labels = tuple(filter(None, map(str.strip, _SEPARATORS.split(cells["label"]))))
        split, group = cells.get("split", ""), cells.get("group", "")
        name = Path(cells["file"]).as_posix()
        made = LabelledFile(folder / name, name, labels, split, group)
        known = files.setdefault(name, made)
        if known.split != split:
            msg = f"{table}, line {line}: {name} is in the split {known.split!r} and in {split!r}"
            raise ConfigError(msg)
        if known is not made:
            files[name] = known._replace(labels=tuple(dict.fromkeys(known.labels + labels)))
    return list(files.values())


def read_class_folders(root: Path) -> list[LabelledFile]:
    """Find the files of a folder with a folder for every class, or with such for every split.

    Raises:
        ConfigError: An audio file is not in the folder of a class.
    """
    named = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    in_splits = bool(named & _TRAIN) and named <= _TRAIN | _VALID | _TEST
    files = []
    for path, name in find_audio_files([root]).sources:
        parts = name.split("/")
        if len(parts) < 2 + in_splits:
            msg = f"{path} is not in the folder of a class: move it into one"
            raise ConfigError(msg)
        split = parts[0] if in_splits else ""
        files.append(LabelledFile(path, name, (parts[in_splits],), split))
    return files


def recordings_of(files: Sequence[LabelledFile], pattern: str = "") -> list[str]:
    """Return the recording that every file belongs to.

    Args:
        files: The files.
        pattern: Regular expression: what it finds in the name, or its first group of that. By
            default the group of the file, or its name without a part number, as in ``rain-2.wav``.

    Raises:
        ConfigError: The pattern is not a regular expression.
    """
    if pattern:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            msg = f"data.group {pattern!r} is not a regular expression: {error}"
            raise ConfigError(msg) from error
        found = [compiled.search(file.name) for file in files]
        return [
            (match.group(1) if compiled.groups else match.group(0)) if match else file.name
            for match, file in zip(found, files, strict=True)
        ]
    if any(file.group for file in files):
        return [file.group or file.name for file in files]
    stems = [_PART.sub("", file.name.rpartition(".")[0]) for file in files]
    # Where numbers merely count the clips of a class, they would make one recording of it.
    groups, clips = defaultdict[tuple[str, ...], set[str]](set), Counter[tuple[str, ...]]()
    for file, stem in zip(files, stems, strict=True):
        groups[file.labels].add(stem)
        clips[file.labels] += 1
    meaningful = all(len(groups[labels]) >= min(5, count) for labels, count in clips.items())
    return stems if meaningful else [file.name for file in files]


def split_by_recording(
    files: Sequence[LabelledFile], groups: Sequence[str], share: float, seed: int
) -> np.ndarray:
    """Return which files are tested on, (files,), bool: about a share of each class.

    Files of one group stay together. A class with a single recording is trained on only.
    """
    rng, tested = np.random.default_rng(seed), set[str]()
    by_class: dict[str, list[str]] = defaultdict(list)
    for file, group in zip(files, groups, strict=True):
        for label in file.labels or ("",):
            if group not in by_class[label]:
                by_class[label].append(group)
    for label in sorted(by_class):
        members = by_class[label]
        wanted = min(len(members) - 1, max(1, round(share * len(members))))
        wanted -= sum(group in tested for group in members)
        for index in rng.permutation(len(members)):
            if wanted > 0 and members[index] not in tested:
                tested.add(members[index])
                wanted -= 1
        if len(members) < 2:
            _log.warning("the class %s has a single recording, and is not tested", label or "none")
    return np.array([group in tested for group in groups], bool)


def to_clips(
    files: Iterable[LabelledFile], labels: Sequence[str], groups: Iterable[str] | None = None
) -> list[Clip]:
    """Return files as clips.

    Raises:
        ConfigError: A file has a label that is not among `labels`.
    """
    index = {label: number for number, label in enumerate(labels)}
    listed, clips = list(files), []
    for file, group in zip(listed, groups or [file.group for file in listed], strict=True):
        bits = np.zeros(len(labels), bool)
        for label in file.labels:
            if label not in index:
                raise ConfigError(f"{file.name}: " + unknown("label", label, labels))
            bits[index[label]] = True
        clips.append(file_clip(file.path, file.name, np.packbits(bits), group))
    return clips


def _in_splits(files: list[LabelledFile], config: DataConfig, labels: Sequence[str]) -> Dataset:
    """Return files in their own splits or folds, or in random ones."""
    groups = recordings_of(files, config.group)
    clips = to_clips(files, labels, groups)
    return Dataset(tuple(labels), *_divided(files, clips, groups, config))


def _divided(
    files: Sequence[LabelledFile], clips: Sequence[Clip], groups: Sequence[str], config: DataConfig
) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Return the clips of files to train, to validate and to test on."""
    splits = [file.split.lower() for file in files]
    names = set(splits)

    def where(chosen: Iterable[bool]) -> list[Clip]:
        return [clip for clip, included in zip(clips, chosen, strict=True) if included]

    if not any(names):
        tested = split_by_recording(files, groups, config.test_share, config.seed)
        return where(~tested), [], where(tested)
    if all(name.removeprefix("fold").isdecimal() for name in names):
        folds = [int(name.removeprefix("fold")) for name in splits]
        if config.fold not in folds:
            msg = f"there is no clip in fold {config.fold}; the folds are {sorted(set(folds))}"
            raise ConfigError(msg)
        return (
            where(fold != config.fold for fold in folds),
            [],
            where(fold == config.fold for fold in folds),
        )
    if odd := names - _TRAIN - _VALID - _TEST:
        raise ConfigError(unknown("split", sorted(odd)[0], _TRAIN | _VALID | _TEST))
    train, valid, test = (
        where(split in known for split in splits) for known in (_TRAIN, _VALID, _TEST)
    )
    return train, valid, test


def _vocabulary(files: Iterable[LabelledFile]) -> tuple[str, ...]:
    return tuple(sorted({label for file in files for label in file.labels}))


def _clips(paths: list[Path], config: DataConfig) -> Dataset:
    labels = audioset_labels()
    return Dataset(labels, find_clips(paths, (), labels), [], [])


def _folder(paths: list[Path], config: DataConfig) -> Dataset:
    path = paths[0]
    if is_packed(path):
        return _packed(path, config)
    files = read_labelled_table(path) if is_table(path) else read_class_folders(path)
    return _in_splits(files, config, _vocabulary(files))


def _packed(path: Path, config: DataConfig) -> Dataset:
    """Return the clips of a file that `hear_train.data.packing.pack_clips` wrote."""
    labels, places = packed_labels(path), read_splits(path)
    if not labels or places is None:
        msg = f"{path} does not name its classes: use the recipe or format of its data set"
        raise ConfigError(msg)
    clips = packed_clips(path, len(labels))
    files = [
        LabelledFile(path, clip.name, _names(clip, labels), split, group)
        for clip, split, group in zip(clips, *places, strict=True)
    ]
    groups = recordings_of(files, config.group)
    return Dataset(labels, *_divided(files, clips, groups, config))


def _names(clip: Clip, labels: Sequence[str]) -> tuple[str, ...]:
    assert clip.labels is not None  # noqa: S101 - such files have targets
    present = np.flatnonzero(np.unpackbits(clip.labels, count=len(labels)))
    return tuple(labels[index] for index in present.tolist())


def _esc50(paths: list[Path], config: DataConfig) -> Dataset:
    root = paths[0]
    table = _first(root, "meta/esc50.csv", "meta/meta.csv", "esc50.csv", "meta.csv")
    audio = _first(root, "audio_32k", "audio")
    files = read_labelled_table(table, audio)
    return _in_splits(files, config, _vocabulary(files))


def _dcase20(paths: list[Path], config: DataConfig) -> Dataset:
    root = paths[0]
    scenes = {file.name: file for file in read_labelled_table(_first(root, "meta.csv"), root)}
    labels = _vocabulary(scenes.values())
    splits = []
    for name in ("fold1_train.csv", "fold1_evaluate.csv"):
        table = _first(root, f"evaluation_setup/{name}")
        named = [file.name for file in read_labelled_table(table, root)]
        if missing := [file for file in named if file not in scenes]:
            msg = f"{table} names {missing[0]}, which is not in meta.csv"
            raise ConfigError(msg)
        splits.append(to_clips([scenes[file] for file in named], labels))
    return Dataset(labels, splits[0], [], splits[1])


def _fsd50k(paths: list[Path], config: DataConfig) -> Dataset:
    root = paths[0]
    vocabulary = sorted(root.glob("**/vocabulary.csv"))
    labels = tuple(f"class {number}" for number in range(200))
    if vocabulary:
        text = vocabulary[0].read_text(encoding="utf-8").splitlines()
        labels = tuple(line.split(",")[1] for line in text if line.count(",") >= 2)
    packed = [root / f"FSD50K.{split}_mp3.hdf" for split in ("train", "val", "eval")]
    if any(path.is_file() for path in packed):
        clips = [packed_clips(path, len(labels)) if path.is_file() else [] for path in packed]
        return Dataset(labels, *clips)
    splits: dict[str, list[LabelledFile]] = {"train": [], "val": [], "test": []}
    for part in ("dev", "eval"):
        table = _first(root, f"FSD50K.ground_truth/{part}.csv")
        for _, row in read_table(table):
            name = f"FSD50K.{part}_audio/{row['fname']}.wav"
            classes = tuple(row["labels"].split(","))
            split = row.get("split", "train") if part == "dev" else "test"
            splits[split].append(LabelledFile(root / name, name, classes))
    if not vocabulary:
        labels = _vocabulary(file for files in splits.values() for file in files)
    return Dataset(labels, *(to_clips(files, labels) for files in splits.values()))


def _openmic(paths: list[Path], config: DataConfig) -> Dataset:
    root = paths[0]
    packed = [root / f"openmic_{split}.csv_mp3.hdf" for split in ("train", "test")]
    instruments = root / "class-map.json"
    labels = tuple(f"class {number}" for number in range(20))
    if instruments.is_file():
        order = read_json(instruments)
        labels = tuple(sorted(order, key=lambda name: int(order[name])))
    if all(path.is_file() for path in packed):
        train, test = (packed_clips(path, len(labels)) for path in packed)
        return Dataset(labels, train, [], test)
    answers = read_table(_first(root, "openmic-2018-aggregated-labels.csv"))
    if not instruments.is_file():
        labels = tuple(sorted({row["instrument"] for _, row in answers}))
    index = {label: number for number, label in enumerate(labels)}
    bits: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, len(labels)), bool))
    for _, row in answers:
        column = index[row["instrument"]]
        bits[row["sample_key"]][:, column] = float(row["relevance"]) > _PRESENT, True
    splits = []
    for name in ("split01_train.csv", "split01_test.csv"):
        keys = _first(root, f"partitions/{name}").read_text(encoding="utf-8").split()
        clips = []
        for key in filter(bits.__contains__, keys):
            present, known = np.packbits(bits[key], axis=1)
            name = f"audio/{key[:3]}/{key}.ogg"
            clips.append(file_clip(root / name, name, present)._replace(known=known))
        splits.append(clips)
    return Dataset(labels, splits[0], [], splits[1])


def _audioset(paths: list[Path], config: DataConfig) -> Dataset:
    labels = audioset_labels()
    files = [f for p in paths for f in (sorted(p.iterdir()) if p.is_dir() else [p]) if is_packed(f)]
    if not files:
        msg = (
            f"there is no HDF5 file in {', '.join(map(str, paths))}; AudioSet is read as PaSST "
            "packs it: balanced_train…, unbalanced_train… and eval_segments_mp3.hdf"
        )
        raise ConfigError(msg)
    tested = [file for file in files if file.name.startswith("eval")]
    train = [file for file in files if file not in tested]
    test = tested or (files if len(files) == 1 else [])
    return Dataset(
        labels,
        [clip for file in train for clip in packed_clips(file, len(labels))],
        [],
        [clip for file in test for clip in packed_clips(file, len(labels))],
    )


def _panns(paths: list[Path], config: DataConfig) -> Dataset:
    train, balanced, tested = find_indexes(paths[0])
    labels = panns_labels(train)
    splits = [
        packed_clips(path, len(labels)) if path.is_file() else []
        for path in (train, balanced, tested)
    ]
    return Dataset(labels, *splits)


def _hear(paths: list[Path], config: DataConfig) -> Dataset:
    root = paths[0]
    metadata = read_json(root / "task_metadata.json")
    rows = [row for _, row in read_table(root / "labelvocabulary.csv")]
    labels = tuple(row["label"] for row in rows)
    rates = sorted((p for p in root.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    if metadata.get("embedding_type") != "scene" or not rates:
        msg = f"{root} is not a HEAR task of clips with audio: there is nothing to train on"
        raise ConfigError(msg)
    files = []
    for table in sorted(root.glob("*.json")):
        if (rates[-1] / table.stem).is_dir():
            for name, names in read_json(table).items():
                path = rates[-1] / table.stem / name
                files.append(LabelledFile(path, f"{table.stem}/{name}", tuple(names), table.stem))
    return _in_splits(files, config, labels)


def _events(paths: list[Path], config: DataConfig) -> Dataset:
    from hear_train.data.event_datasets import open_events  # which builds on this module

    return open_events(paths, config)


def _audioset_strong(paths: list[Path], config: DataConfig) -> Dataset:
    from hear_train.data.event_datasets import open_audioset_strong

    return open_audioset_strong(paths, config)


FORMATS: Mapping[str, Callable[[list[Path], DataConfig], Dataset]] = {
    "clips": _clips,
    "folder": _folder,
    "table": _folder,
    "hear": _hear,
    "esc50": _esc50,
    "dcase20": _dcase20,
    "fsd50k": _fsd50k,
    "openmic": _openmic,
    "audioset": _audioset,
    "audioset_strong": _audioset_strong,
    "events": _events,
    "panns": _panns,
}
"""Readers of data sets by format."""


def _first(root: Path, *names: str) -> Path:
    """Return the first of several paths below a folder that exists."""
    for name in names:
        if (root / name).exists():
            return root / name
    msg = f"{root} does not have {' or '.join(names)}"
    raise ConfigError(msg)
