"""HEAR tasks made of labelled recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from hear_core.errors import ConfigError, unknown
from hear_core.io.prefetch import prefetch
from hear_eval.tasks.description import EVENT_POSTPROCESSING, FIXED_SPLITS, TaskError
from hear_eval.tasks.recordings import Event, Recording
from hear_eval.tasks.writing import convert, new_task, write_description

# Every score that heareval knows.
METRICS = (
    *("top1_acc", "pitch_acc", "chroma_acc", "mAP", "d_prime", "aucroc"),
    *("event_onset_200ms_fms", "event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
    "segment_1s_er",
)


class Kind(NamedTuple):
    """A kind of task: its embeddings, its predictions, and the metrics that it has by default."""

    embedding_type: str
    prediction_type: str
    metrics: tuple[str, ...]


KINDS = {
    "multiclass": Kind("scene", "multiclass", ("top1_acc",)),
    "multilabel": Kind("scene", "multilabel", ("mAP",)),
    "events": Kind("event", "multilabel", ("event_onset_200ms_fms", "segment_1s_er")),
}


def make_task(
    folder: Path,
    name: str,
    recordings: Sequence[Recording],
    kind: str,
    *,
    seconds: float | None = None,
    sample_rates: Sequence[int] = (48000,),
    metrics: Sequence[str] = (),
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a task.

    It trains, validates and tests on the splits ``train``, ``valid`` and ``test`` if these are its
    splits, and otherwise on every split in turn.

    Args:
        folder: The task becomes a folder in it, called `name`.
        name: Of the task.
        recordings: Each of a split, see `hear_eval.tasks.recordings.with_splits`.
        kind: A key of `KINDS`.
        seconds: Every clip is cut or padded with silence to this length; None keeps theirs.
        sample_rates: Of the audio that is written, in Hz.
        metrics: Some of `METRICS`, the first of which chooses the predictor; none are those of
            the kind.
        progress: Called after every file, with how many are written and how many there will be.

    Returns:
        The folder of the task.

    Raises:
        ConfigError: The kind or a metric is unknown, or another process makes the task.
        TaskError: There are too few splits or classes, two recordings would share a name, one has
            not one class in a multi-class task, or there is a task of this name already.
        AudioError: A file cannot be read, is cut off, or holds what is no number.
    """
    if kind not in KINDS:
        raise ConfigError(unknown("kind of task", kind, KINDS))
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(unknown("metric", metric, METRICS))
    files = _files(name, recordings)
    splits = _splits(name, recordings)
    vocabulary = _vocabulary(name, recordings, kind)
    embedding_type, prediction_type, usual = KINDS[kind]
    events = {"evaluation_params": {"event_postprocessing_grid": EVENT_POSTPROCESSING}}
    with new_task(folder, name) as task:
        lengths = _write_clips(task, files, sample_rates, seconds, progress)
        write_description(
            task,
            _labels(files, splits, kind, seconds),
            vocabulary,
            embedding_type=embedding_type,
            prediction_type=prediction_type,
            split_mode="trainvaltest" if set(splits) == set(FIXED_SPLITS) else "presplit_kfold",
            sample_duration=seconds or (lengths.pop() if len(lengths) == 1 else None),
            evaluation=list(metrics or usual),
            **(events if kind == "events" else {}),
        )
    return folder / name


def _write_clips(
    task: Path,
    files: Mapping[str, Recording],
    sample_rates: Sequence[int],
    seconds: float | None,
    progress: Callable[[int, int], object] | None,
) -> set[float]:
    """Write the audio of a task; return the lengths that its clips have, in seconds."""
    jobs = [
        (recording.path, task / str(rate) / recording.split / file, rate)
        for rate in sample_rates
        for file, recording in files.items()
    ]
    lengths = set()
    with closing(prefetch(lambda job: convert(*job, seconds) / job[2], jobs)) as results:
        for done, result in enumerate(results, start=1):
            lengths.add(result.result())
            if progress:
                progress(done, len(jobs))
    return lengths


def _labels(
    files: Mapping[str, Recording], splits: Iterable[str], kind: str, seconds: float | None
) -> dict[str, dict[str, list[Any]]]:
    """Return what is known of the files of each split."""
    labels: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    for file, recording in files.items():
        labels[recording.split][file] = (
            _in_milliseconds(recording.events, seconds)
            if kind == "events"
            else sorted(set(recording.labels))
        )
    return labels


def _files(name: str, recordings: Sequence[Recording]) -> dict[str, Recording]:
    """Return recordings by what their audio is called; heareval joins splits by that alone."""
    known: dict[str, Recording] = {}
    for recording in recordings:
        path = PurePosixPath(recording.name).with_suffix(".wav")
        file = "-".join(part for part in path.parts if part not in ("/", ".."))
        if file in known:
            msg = f"{name}: {known[file].name} and {recording.name} would both be called {file}"
            raise TaskError(msg)
        known[file] = recording
    return known


def _splits(name: str, recordings: Sequence[Recording]) -> list[str]:
    splits = sorted({recording.split for recording in recordings})
    if set(splits) == set(FIXED_SPLITS):
        return list(FIXED_SPLITS)
    if len(splits) < 3 or set(splits) & set(FIXED_SPLITS):
        msg = (
            f"{name} has the splits {', '.join(map(repr, splits))}; "
            f"a task has {', '.join(FIXED_SPLITS)}, or three folds and more"
        )
        raise TaskError(msg)
    return splits


def _vocabulary(name: str, recordings: Sequence[Recording], kind: str) -> list[str]:
    found = set()
    for recording in recordings:
        labels = recording.labels
        if kind == "multiclass" and len(labels) != 1:
            count = f"{len(labels)} classes"
            msg = f"{name}: {recording.name} has {count}; in a multi-class task it has one"
            raise TaskError(msg)
        found |= {event.label for event in recording.events} if kind == "events" else set(labels)
    least = 2 if kind == "multiclass" else 1
    if len(found) < least:
        msg = f"{name} has {len(found)} classes; a task of the kind {kind} has {least} and more"
        raise TaskError(msg)
    return sorted(found)


def _in_milliseconds(events: Sequence[Event], seconds: float | None) -> list[dict[str, Any]]:
    """Return events as tasks keep them, less what a clip is cut by."""
    return [
        {
            "label": event.label,
            "start": round(1000 * event.onset, 3),
            "end": round(1000 * min(event.offset, seconds or event.offset), 3),
        }
        for event in sorted(events, key=lambda event: (event.onset, event.label))
        if seconds is None or event.onset < seconds
    ]
