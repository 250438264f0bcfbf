"""Data sets with events: recordings with annotations of one's own, HEAR tasks, AudioSet Strong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError
from hear_core.events.annotations import read_event_table, read_events_beside
from hear_core.events.event import Event
from hear_core.io.json_files import read_json
from hear_core.io.tables import is_table, read_table
from hear_core.zoo.labels import audioset_labels, audioset_mids
from hear_sed.labels import strong_labels, strong_mids
from hear_train.data.clips import Clip, file_clip, packed_clips
from hear_train.data.datasets import (
    SPLITS,
    DataConfig,
    Dataset,
    LabelledFile,
    recordings_of,
    split_by_recording,
)
from hear_train.data.events import event_rows
from hear_train.data.hdf5 import holds_clips, is_packed

_log = logging.getLogger(__name__)

_SHOWN = 3  # names in a message
_CLIP_ID = re.compile(r"^Y?([\w-]{11})(?:_\d+(?:_\d+)?|\.\d+)?$")


class _Recording(NamedTuple):
    """A recording with its events, and what reads it."""

    clip: Clip
    path: Path | None
    events: list[Event]
    split: str


def open_events(paths: Sequence[Path], config: DataConfig) -> Dataset:
    """Return recordings with events: those of a HEAR task, or annotated ones of one's own.

    Args:
        paths: Folder of the task, or folder or file of recordings.
        config: Settings. `DataConfig.labels` is a table of events, or a folder of one for every
            split; without it, the annotations are next to the recordings, see
            `hear_core.events.annotations.read_events_beside`. The splits are the folders ``train``,
            ``valid`` and ``test`` or the tables of these names; without any, recordings are
            assigned at random to test, validation and training.

    Raises:
        ConfigError: There are no recordings with events, or annotations cannot be read.
    """
    root = paths[0]
    if (root / "task_metadata.json").is_file():
        found, labels = _hear_task(root)
    else:
        found = _annotated(root, Path(config.labels) if config.labels else None)
        labels = tuple(sorted({event.label for each in found for event in each.events}))
    if not labels:
        msg = f"none of the {len(found)} recordings in {root} has an event"
        raise ConfigError(msg)
    return _in_splits(found, labels, config)


def open_audioset_strong(paths: Sequence[Path], config: DataConfig) -> Dataset:
    """Return AudioSet Strong: clips of folders or HDF5 files, and the published tables of events.

    The tables are ``audioset_train_strong.tsv`` and ``audioset_eval_strong.tsv``, or tables with
    the columns ``filename``, ``onset``, ``offset`` and ``event_label``, with ``train`` and ``eval``
    in their names; `DataConfig.labels` is their folder, by default that of the data. Classes are
    identifiers such as ``/m/09x0r`` or names; those of the evaluation set that are not among the
    447 of the training set are left out, and clips with no other event. Lengths of the clips of the
    evaluation set are read from ``eval_durations.csv`` if it is there.

    Raises:
        ConfigError: There are no tables or no clips, or the tables name none of the clips.
    """
    folder = Path(config.labels) if config.labels else paths[0]
    labels = strong_labels()
    names = _strong_names()
    clips = _clips_by_id(paths)
    lengths = _durations(folder)
    splits: dict[str, list[Clip]] = {"train": [], "eval": []}
    for split, chosen in splits.items():
        tables = [table for table in sorted(folder.glob(f"*{split}*.tsv")) if _has_events(table)]
        if not tables and split == "train" and not clips:
            continue
        missing = 0
        for name, events in (pair for t in tables for pair in read_event_table(t).items()):
            known = [e._replace(label=names[e.label]) for e in events if e.label in names]
            clip = clips.get(_clip_id(name))
            missing += clip is None
            if clip is not None and (known or split == "train"):
                seconds = lengths.get(_clip_id(name), clip.seconds)
                chosen.append(_with_events(clip, known, labels)._replace(seconds=seconds))
        if missing:
            _log.warning("%d clips of the split %s of AudioSet Strong are missing", missing, split)
    if not splits["train"] and not splits["eval"]:
        msg = (
            f"there are no clips of AudioSet Strong in {', '.join(map(str, paths))} with events in "
            f"{folder}; it is read from audioset_train_strong.tsv, audioset_eval_strong.tsv and "
            "audio files or HDF5 files of mp3s with the identifiers of the clips as names"
        )
        raise ConfigError(msg)
    return Dataset(labels, splits["train"], [], splits["eval"])


def _hear_task(root: Path) -> tuple[list[_Recording], tuple[str, ...]]:
    """Return the recordings of a HEAR task of events, and its classes."""
    if read_json(root / "task_metadata.json").get("embedding_type") != "event":
        msg = f"{root} is a HEAR task of clips, which do not have events"
        raise ConfigError(msg)
    labels = tuple(row["label"] for _, row in read_table(root / "labelvocabulary.csv"))
    rates = sorted((p for p in root.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    found = []
    for split in SPLITS:
        if not rates or not (root / f"{split}.json").is_file():
            continue
        for name, rows in read_json(root / f"{split}.json").items():
            events = [
                Event(str(row["label"]), row["start"] / 1000, row["end"] / 1000) for row in rows
            ]
            path = rates[-1] / split / name
            found.append(_Recording(file_clip(path, f"{split}/{name}"), path, events, split))
    return found, labels


def _annotated(root: Path, table: Path | None) -> list[_Recording]:
    """Return the recordings of a folder that have annotations."""
    files = find_audio_files([root]).sources
    if table is None:
        read = {file.name: read_events_beside(file.path) for file in files}
        if all(events is None for events in read.values()):
            msg = (
                f"there are no annotations next to the {len(files)} recordings in {root}: give a "
                "table with the columns filename, onset, offset and event_label as --labels, or "
                "put a label track of Audacity (bird.txt for bird.wav) next to each recording"
            )
            raise ConfigError(msg)
        tables = {"": {name: events for name, events in read.items() if events is not None}}
    else:
        tables = _tables(table)
    known = {name: number for number, file in enumerate(files) for name in _spellings(file.name)}
    found: dict[int, _Recording] = {}
    missing = []
    for split, events_of in tables.items():
        for name, events in events_of.items():
            spelled = (s for s in (Path(name).as_posix(), *_spellings(name)) if s in known)
            number = next((known[spelling] for spelling in spelled), None)
            if number is None:
                missing.append(name)
                continue
            file = files[number]
            first = file.name.split("/")[0].lower()
            own = split or (first if first in SPLITS and "/" in file.name else "")
            clip = file_clip(file.path, file.name)
            before = found.get(number)
            joined = events if before is None else before.events + events
            found[number] = _Recording(clip, file.path, joined, own)
    if not found:
        msg = (
            f"{table} names recordings such as {missing[0] if missing else ''!r}, none of which is "
            f"among the {len(files)} recordings in {root}"
            + (f", such as {files[0].name!r}" if files else "")
        )
        raise ConfigError(msg)
    for what, names in (
        ("named in the table are missing", missing),
        (
            "without annotations are left out",
            [file.name for number, file in enumerate(files) if number not in found],
        ),
    ):
        if names:
            _log.warning("%d recordings %s: %s", len(names), what, ", ".join(names[:_SHOWN]))
    return [found[number] for number in sorted(found)]


def _tables(path: Path) -> dict[str, dict[str, list[Event]]]:
    """Return the events of a table by recording, or of a folder of tables by split."""
    if not path.exists():
        msg = f"{path} does not exist; it must be a table of events or a folder of such tables"
        raise ConfigError(msg)
    if path.is_file():
        return {"": read_event_table(path)}
    found = {
        table.stem: read_event_table(table)
        for table in sorted(path.iterdir())
        if is_table(table) and table.stem in SPLITS
    }
    if not found:
        msg = f"{path} does not have a table of events for a split, such as train.tsv or test.tsv"
        raise ConfigError(msg)
    return found


def _spellings(name: str) -> tuple[str, ...]:
    """Return how a table may spell the name of a recording, the fullest spelling first."""
    path = Path(name.replace("\\", "/"))  # tables of Raven may come from Windows
    return path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem


def _in_splits(found: list[_Recording], labels: tuple[str, ...], config: DataConfig) -> Dataset:
    clips = [
        _with_events(each.clip, each.events, labels)._replace(seconds=_seconds(each.path))
        for each in found
    ]
    splits = [each.split for each in found]
    if not any(splits):
        splits = _drawn_splits(found, config)
    if odd := [each.clip.name for each, split in zip(found, splits, strict=True) if not split]:
        msg = f"some recordings are in no split, such as {odd[0]}: all of them must be, or none"
        raise ConfigError(msg)
    parts = (
        [clip for clip, split in zip(clips, splits, strict=True) if split == name]
        for name in SPLITS
    )
    return Dataset(labels, *parts)


def _drawn_splits(found: list[_Recording], config: DataConfig) -> list[str]:
    """Return a split for every recording; the same share is tested and validated on."""
    files = [
        LabelledFile(
            Path(r.clip.name), r.clip.name, tuple(dict.fromkeys(e.label for e in r.events))
        )
        for r in found
    ]
    groups = recordings_of(files, config.group)
    tested = split_by_recording(files, groups, config.test_share, config.seed)
    rest = np.flatnonzero(~tested)
    share = min(0.5, config.test_share / (1 - config.test_share))
    validated = split_by_recording(
        [files[i] for i in rest], [groups[i] for i in rest], share, config.seed + 1
    )
    splits = np.where(tested, "test", "train")
    splits[rest[validated]] = "valid"
    return [str(split) for split in splits]


def _with_events(clip: Clip, events: Iterable[Event], labels: Sequence[str]) -> Clip:
    """Return a clip with its events, and with the classes of them."""
    rows = event_rows(list(events), {label: number for number, label in enumerate(labels)})
    present = np.zeros(len(labels), bool)
    present[rows[:, 0].astype(int)] = True
    return clip._replace(labels=np.packbits(present), known=None, events=rows)


def _seconds(path: Path | None) -> float:
    """Return the length of an audio file by its header, or 0 if that is not known."""
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (OSError, soundfile.SoundFileError, RuntimeError):
        return 0.0


def _strong_names() -> Mapping[str, str]:
    """Return the class of AudioSet Strong by its identifier, and by every name that it has."""
    mids = strong_mids()
    by_mid = {mid: name for name, mid in mids.items()}
    tagged = audioset_mids()
    named = {label: by_mid[tagged[label]] for label in audioset_labels() if tagged[label] in by_mid}
    return {**named, **by_mid, **{name: name for name in mids}}


def _clips_by_id(paths: Sequence[Path]) -> dict[str, Clip]:
    """Return the clips below some paths by the identifier of their video."""
    found: dict[str, Clip] = {}
    classes = len(audioset_labels())
    for path in paths:
        packed = [path] if is_packed(path) else []
        if path.is_dir():
            packed = [
                file for file in sorted(path.iterdir()) if is_packed(file) and holds_clips(file)
            ]
            for file in find_audio_files([path]).sources:
                found.setdefault(_clip_id(file.name), file_clip(file.path, file.name))
        for file_path in packed:
            for clip in packed_clips(file_path, classes):
                found.setdefault(_clip_id(clip.name), clip)
    return found


def _clip_id(name: str) -> str:
    """Return the identifier of a video in the name of a clip or segment.

    >>> _clip_id("Yb0RFKhbpFJA.mp3"), _clip_id("b0RFKhbpFJA_30000")
    ('b0RFKhbpFJA', 'b0RFKhbpFJA')
    """
    stem = name.rpartition("/")[2]
    for suffix in (".mp3", ".wav", ".flac", ".ogg", ".m4a", ".opus"):
        stem = stem.removesuffix(suffix)
    match = _CLIP_ID.match(stem)
    return match.group(1) if match else stem


def _has_events(table: Path) -> bool:
    """Return whether a table has onsets, unlike the others that AudioSet Strong comes with."""
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().lower()
    return "onset" in header or "start_time_seconds" in header


def _durations(folder: Path) -> dict[str, float]:
    """Return the lengths in ``eval_durations.csv`` in seconds, by the identifier of the video."""
    path = folder / "eval_durations.csv"
    if not path.is_file():
        return {}
    found = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"[,;\t]", text) if cell.strip()]
        try:
            found[_clip_id(cells[-2])] = float(cells[-1])
        except (IndexError, ValueError) as error:
            if line > 1:  # the first line may be a header
                msg = f"{path}, line {line}, must be the name of a clip and its length in seconds"
                raise ConfigError(msg) from error
    return found
