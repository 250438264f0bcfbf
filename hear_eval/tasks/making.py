"""Making of HEAR tasks from labelled recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event
from hear_core.io.names import check_name, shortened
from hear_core.io.prefetch import prefetch
from hear_core.metrics.registry import find_metrics
from hear_eval.tasks.audio import check_task_sample_rate
from hear_eval.tasks.description import (
    EVENT_POSTPROCESSING,
    FIXED_SPLITS,
    TaskError,
    events_past_end,
)
from hear_eval.tasks.recordings import Recording
from hear_eval.tasks.writing import (
    WrittenClip,
    check_clip_length,
    convert_clip,
    new_task,
    write_description,
)

_ROOM = 32  # bytes that suffixes and temporary files append to the name of a clip or a split


class TaskKind(NamedTuple):
    """A kind of task: its type of embeddings and of predictions, and its default metrics."""

    embedding_type: str
    prediction_type: str
    metrics: tuple[str, ...]


KINDS = {
    "multiclass": TaskKind("scene", "multiclass", ("top1_acc",)),
    "multilabel": TaskKind("scene", "multilabel", ("mAP",)),
    "events": TaskKind("event", "multilabel", ("event_onset_200ms_fms", "segment_1s_er")),
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
    """Make a task from recordings.

    If the splits are ``train``, ``valid`` and ``test``, they are used as such. Otherwise the task
    is cross-validated: every split is tested on in turn.

    Args:
        folder: Folder in which the folder of the task is made.
        name: Name of the task and of its folder.
        recordings: Recordings with splits, see `hear_eval.tasks.recordings.with_splits`.
        kind: A key of `KINDS`.
        seconds: Length in seconds to which clips are truncated or padded with silence; None keeps
            the lengths of the recordings.
        sample_rates: Sample rates in Hz of the audio to write.
        metrics: Some of `METRICS`, the first of which selects the predictor; by default those of
            the kind.
        progress: Called after every file with the number of files written and of all files.

    Returns:
        The folder of the task.

    Raises:
        ConfigError: The kind, a metric or a sample rate is not valid, the name of the task or of a
            split cannot be the name of a folder, or another process makes the task.
        TaskError: There are too few splits or classes, two recordings would have the same name, a
            recording of a multi-class task does not have exactly one class, an event lies past the
            end of its recording, or there is a task of this name already.
        AudioError: A recording cannot be read, is truncated, or has samples that are not finite.
        FileError: A file cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(unknown("kind of task", kind, KINDS))
    embedding_type, prediction_type, usual = KINDS[kind]
    find_metrics(metrics, events=kind == "events")
    check_clip_length(seconds)
    for sample_rate in sample_rates:
        check_task_sample_rate(sample_rate)
    files = _files(name, recordings)
    splits = _splits(name, recordings)
    vocabulary = _vocabulary(name, recordings, kind)
    events = {"evaluation_params": {"event_postprocessing_grid": EVENT_POSTPROCESSING}}
    with new_task(folder, name) as task:
        lengths = _write_clips(task, files, sample_rates, seconds, progress)
        write_description(
            task,
            _labels(files, splits, kind, lengths),
            vocabulary,
            embedding_type=embedding_type,
            prediction_type=prediction_type,
            split_mode="trainvaltest" if set(splits) == set(FIXED_SPLITS) else "presplit_kfold",
            sample_duration=seconds or _common_length(lengths.values()),
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
) -> dict[str, list[WrittenClip]]:
    """Write the audio of a task; return the lengths of each clip, at every sample rate."""
    jobs = [(file, rate) for rate in dict.fromkeys(sample_rates) for file in files]

    def convert(job: tuple[str, int]) -> WrittenClip:
        file, rate = job
        target = task / str(rate) / files[file].split / file
        return convert_clip(files[file].path, target, rate, seconds)

    lengths: dict[str, list[WrittenClip]] = {}
    with closing(prefetch(convert, jobs)) as results:
        for done, ((file, _), result) in enumerate(zip(jobs, results, strict=True), start=1):
            clip = result.result()
            _check_events(files[file], clip.source_seconds)
            lengths.setdefault(file, []).append(clip)
            if progress:
                progress(done, len(jobs))
    return lengths


def _check_events(recording: Recording, seconds: float) -> None:
    """Check that the events of a recording are in it.

    Raises:
        TaskError: One begins or ends past the end.
    """
    times = [(event.onset, event.offset) for event in recording.events]
    if wrong := events_past_end(times, seconds):
        onset, offset = wrong[0]
        msg = (
            f"{recording.path} is {seconds:g} s long, but is labelled with an event from {onset:g} "
            f"to {offset:g} s; correct its labels"
        )
        raise TaskError(msg)


def _common_length(lengths: Iterable[Sequence[WrittenClip]]) -> float | None:
    found = {clip.seconds for clips in lengths for clip in clips}
    return found.pop() if len(found) == 1 else None


def _labels(
    files: Mapping[str, Recording],
    splits: Iterable[str],
    kind: str,
    lengths: Mapping[str, Sequence[WrittenClip]],
) -> dict[str, dict[str, list[Any]]]:
    """Return the labels of the files of each split."""
    labels: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    for file, recording in files.items():
        labels[recording.split][file] = (
            _in_milliseconds(recording.events, max(clip.seconds for clip in lengths[file]))
            if kind == "events"
            else sorted(set(recording.labels))
        )
    return labels


def _files(name: str, recordings: Sequence[Recording]) -> dict[str, Recording]:
    """Return recordings by the names of their clips; heareval joins splits by these alone."""
    known: dict[str, Recording] = {}
    for recording in recordings:
        parts = PurePosixPath(recording.name).parts
        joined = "-".join(part for part in parts if part not in ("/", "..")).lstrip(".")
        if not joined:
            msg = f"{name}: {recording.name!r} is not the name of a file"
            raise TaskError(msg)
        file = shortened(str(PurePosixPath(joined).with_suffix(".wav")), room=_ROOM)
        check_name(file, f"{name}: the recording", error=TaskError)
        if file in known:
            msg = f"{name}: {known[file].name} and {recording.name} would both be named {file}"
            raise TaskError(msg)
        known[file] = recording
    return known


def _splits(name: str, recordings: Sequence[Recording]) -> list[str]:
    splits = sorted({recording.split for recording in recordings})
    for split in splits:
        check_name(split, f"{name}: the split", room=_ROOM)
        if split.startswith("."):
            msg = f"{name}: the split {split!r} must not begin with a dot"
            raise ConfigError(msg)
    if set(splits) == set(FIXED_SPLITS):
        return list(FIXED_SPLITS)
    if len(splits) < 3 or set(splits) & set(FIXED_SPLITS):
        msg = (
            f"{name} has the splits {', '.join(map(repr, splits))}; "
            f"a task must have {', '.join(FIXED_SPLITS)}, or at least three folds"
        )
        raise TaskError(msg)
    return splits


def _vocabulary(name: str, recordings: Sequence[Recording], kind: str) -> list[str]:
    found = set()
    for recording in recordings:
        labels = recording.labels
        if kind == "multiclass" and len(labels) != 1:
            count = f"{len(labels)} classes"
            msg = f"{name}: {recording.name} has {count}; in a multi-class task it must have one"
            raise TaskError(msg)
        found |= {event.label for event in recording.events} if kind == "events" else set(labels)
    least = 2 if kind == "multiclass" else 1
    if len(found) < least:
        msg = f"{name} has {len(found)} classes; a task of kind {kind} needs at least {least}"
        raise TaskError(msg)
    return sorted(found)


def _in_milliseconds(events: Sequence[Event], seconds: float) -> list[dict[str, Any]]:
    """Return events as tasks store them, without what lies past the end of the clip."""
    return [
        {
            "label": event.label,
            "start": round(1000 * event.onset, 3),
            "end": round(1000 * min(event.offset, seconds), 3),
        }
        for event in sorted(events, key=lambda event: (event.onset, event.label))
        if event.onset < seconds
    ]
