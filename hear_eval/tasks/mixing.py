"""A HEAR task of sound event detection, mixed from labelled clips: who sounds when is known."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from hear_core.errors import AudioError, ConfigError
from hear_eval.tasks.audio import read_recording
from hear_eval.tasks.description import EVENT_POSTPROCESSING, FIXED_SPLITS
from hear_eval.tasks.writing import Clip, new_task, write_audio, write_description

_FRAME = 0.01  # seconds over which the energy of a clip is taken
_FLOOR = -30.0  # dB below its loudest frame, from which on a clip is silent
_PAUSE = 1.0  # seconds of silence after which the same source is another event
_APART = 0.5  # seconds between two events of a class; closer ones are one to any detector
_FADE = 0.005  # seconds at both ends of an event, whose cuts would click and give it away
_BACKGROUND = 0.01  # root mean square of the background: -40 dB of full scale
_PEAK = 0.99  # of full scale, which no scene exceeds

log = logging.getLogger(__name__)
T = TypeVar("T")
# Events by split and file, as tasks keep them.
_Labels: TypeAlias = dict[str, dict[str, list[dict[str, object]]]]


@dataclass(frozen=True)
class Mixture:
    """How scenes are mixed.

    Args:
        seconds: Length of a scene.
        sample_rate: Of the audio that is written, in Hz.
        events: Fewest and most events of a scene. A scene that is full takes no more.
        polyphony: Most events that sound at once; they are of different classes.
        snr: Least and greatest level of an event above the background, in dB of power.
        longest: Longer sounds end after so many seconds.
        seed: The same clips and the same seed make the same task, byte by byte.

    Raises:
        ConfigError: A value is out of range.
    """

    seconds: float = 20.0
    sample_rate: int = 32000
    events: tuple[int, int] = (3, 7)
    polyphony: int = 2
    snr: tuple[float, float] = (6.0, 24.0)
    longest: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        least_rate = math.ceil(1 / _FRAME)
        fewest, most = self.events
        quietest, loudest = self.snr
        rules = {
            f"sample_rate must be at least {least_rate} Hz": self.sample_rate >= least_rate,
            f"seconds must be a number from {_FRAME}": _FRAME <= self.seconds < math.inf,
            f"longest must be at least {_FRAME} seconds": self.longest >= _FRAME,
            "events must be two numbers from 1, the fewest first": 1 <= fewest <= most,
            "polyphony must be at least 1": self.polyphony >= 1,
            "snr must be two numbers of dB, the least first": (
                -math.inf < quietest <= loudest < math.inf
            ),
            "seed must be at least 0": self.seed >= 0,
        }
        for rule, holds in rules.items():
            if not holds:
                msg = f"{rule}, not {getattr(self, rule.partition(' ')[0])}"
                raise ConfigError(msg)

    @property
    def samples(self) -> int:
        """Length of a scene in samples."""
        return round(self.seconds * self.sample_rate)


class Sounding(NamedTuple):
    """An event of a scene: its class, and when it begins and ends, in seconds."""

    label: str
    onset: float
    offset: float


class _Placed(NamedTuple):
    label: str
    start: int
    stop: int


def mix_event_task(
    folder: Path,
    name: str,
    clips: Sequence[Clip],
    scenes: Mapping[str, int],
    mixture: Mixture | None = None,
    progress: Callable[[int, int], object] | None = None,
    *,
    grid: Mapping[str, Sequence[object]] | None = None,
) -> Path:
    """Write a multi-label event task with fixed splits, which heareval takes as it is.

    Classes take turns, and so do the clips of a class, so that a task is balanced where its clips
    are not.

    Args:
        folder: The task becomes a folder in it, called `name`.
        name: Of the task.
        clips: Each of the split ``train``, ``valid`` or ``test``. Those with an empty label are
            backgrounds; where there are none at all, the background is pink noise.
        scenes: How many there are to be of each split.
        mixture: How they are mixed.
        progress: Called after every scene, with how many are made and how many there will be.
        grid: What is tried to train predictors, in place of the same parts of heareval's grid.

    Returns:
        The folder of the task.

    Raises:
        ConfigError: There are other splits, no scenes, no clips of a class or no backgrounds in
            some of the splits only, a file is in two of them, or another process makes the task.
        TaskError: There is a task of this name already.
        AudioError: A file cannot be read, is cut off or silent, or holds what is no number.
    """
    mixture = mixture or Mixture()
    vocabulary = _checked(clips, scenes)
    total, made = sum(scenes.values()), 0
    labels: _Labels = {split: {} for split in FIXED_SPLITS}
    with new_task(folder, name) as task:
        for index, split in enumerate(FIXED_SPLITS):
            rng = np.random.default_rng([mixture.seed, index])
            mixed = _scenes([clip for clip in clips if clip.split == split], mixture, rng)
            target = task / str(mixture.sample_rate) / split
            for file, events in _write(islice(mixed, scenes[split]), target, mixture.sample_rate):
                labels[split][file] = events
                made += 1
                if progress:
                    progress(made, total)
            found = sum(map(len, labels[split].values()))
            log.info("%s: %d scenes of %s with %d events", name, scenes[split], split, found)
        _describe(task, labels, vocabulary, mixture, grid)
    return folder / name


def mix_scene(
    sounds: Iterable[tuple[str, np.ndarray]],
    background: np.ndarray,
    mixture: Mixture,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Sounding]]:
    """Mix one scene.

    Args:
        sounds: Label and waveform (samples,) of each, which fills its waveform from the first
            sample on; see `trim`. Those that do not fit any more are left out.
        background: (samples,), of the length of the scene.
        mixture: How.
        rng: Where events stand, and how loud they are.

    Returns:
        The scene (samples,), float32, and its events by onset.
    """
    rate = mixture.sample_rate
    scene = _level(background, _BACKGROUND)
    placed: list[_Placed] = []
    for label, waveform in sounds:
        sound = waveform[: int(min(mixture.longest, mixture.seconds) * rate)]
        if (start := _place(label, len(sound), placed, mixture, rng)) is None:
            continue
        event = _Placed(label, start, start + len(sound))
        gain = 10 ** (rng.uniform(*mixture.snr) / 20)
        scene[event.start : event.stop] += _faded(_level(sound, _BACKGROUND * gain), rate)
        placed.append(event)
    scene *= _PEAK / max(_PEAK, np.abs(scene).max())
    placed.sort(key=lambda event: (event.start, event.label))
    return scene, [Sounding(event.label, event.start / rate, event.stop / rate) for event in placed]


def trim(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the stretch of a clip in which it sounds.

    Silence at both ends goes, and of sounds that a pause parts, all but the one of most energy.

    Args:
        waveform: (samples,), not silent.
        sample_rate: In Hz.

    Returns:
        (fewer samples,)
    """
    size = round(_FRAME * sample_rate)
    padded = np.pad(waveform, (0, -len(waveform) % size)).astype(np.float64)
    energy = (padded.reshape(-1, size) ** 2).sum(1)
    sounding = np.flatnonzero(energy >= energy.max() * 10 ** (_FLOOR / 10))
    pauses = np.flatnonzero(np.diff(sounding) > round(_PAUSE / _FRAME))
    stretch = max(np.split(sounding, pauses + 1), key=lambda frames: energy[frames].sum())
    return waveform[stretch[0] * size : (stretch[-1] + 1) * size]


def pink_noise(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise (samples,), float32, with the same power in every audible octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate), 20))
    return np.fft.irfft(spectrum, samples).astype(np.float32)


def _checked(clips: Iterable[Clip], scenes: Mapping[str, int]) -> list[str]:
    """Return the classes, if a task can be made of these clips."""
    if set(scenes) != set(FIXED_SPLITS) or min(scenes.values()) < 1:
        msg = f"there must be scenes of each of {', '.join(FIXED_SPLITS)}, not {dict(scenes)}"
        raise ConfigError(msg)
    labels: dict[str, set[str]] = {split: set() for split in FIXED_SPLITS}
    split_of: dict[Path, str] = {}
    for clip in clips:
        if clip.split not in labels:
            msg = f"{clip.path} is of the split {clip.split!r}, which is none of {FIXED_SPLITS}"
            raise ConfigError(msg)
        if (other := split_of.setdefault(clip.path.resolve(), clip.split)) != clip.split:
            msg = f"{clip.path} is in {other} and in {clip.split}: a split needs clips of its own"
            raise ConfigError(msg)
        labels[clip.split].add(clip.label)
    every = set().union(*labels.values())
    if not every - {""}:
        msg = "there are no labelled clips to mix"
        raise ConfigError(msg)
    for split in FIXED_SPLITS:
        if missing := sorted(every - labels[split]):
            what = ", ".join(label or "background" for label in missing)
            msg = f"{split} has no clips of {what}, which another split has"
            raise ConfigError(msg)
    return sorted(every - {""})


def _scenes(
    clips: Iterable[Clip], mixture: Mixture, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[Sounding]]]:
    """Yield scenes of the clips of a split, without end."""
    paths: dict[str, list[Path]] = {}
    for clip in clips:
        paths.setdefault(clip.label, []).append(clip.path)
    backgrounds = _in_turn(paths.pop("", []), rng)
    turns = {label: _in_turn(paths[label], rng) for label in sorted(paths)}
    labels = _in_turn(list(turns), rng)
    while True:
        drawn = list(islice(labels, int(rng.integers(*mixture.events, endpoint=True))))
        sounds = [(label, _sound(next(turns[label]), mixture)) for label in drawn]
        if path := next(backgrounds, None):
            background = _stretch(_sound(path, mixture), mixture.samples, rng)
        else:
            background = pink_noise(mixture.samples, mixture.sample_rate, rng)
        yield mix_scene(sounds, background, mixture, rng)


def _write(
    scenes: Iterable[tuple[np.ndarray, list[Sounding]]], folder: Path, sample_rate: int
) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Write the scenes of a split; yield of each what its file is called, and its events."""
    for number, (waveform, events) in enumerate(scenes):
        # Named after the split: heareval joins the files of splits by their names alone.
        file = f"{folder.name}-{number:05}.wav"
        write_audio(folder / file, waveform, sample_rate)
        yield file, [_in_milliseconds(event) for event in events]


def _describe(
    task: Path,
    labels: _Labels,
    vocabulary: Iterable[str],
    mixture: Mixture,
    grid: Mapping[str, Sequence[object]] | None,
) -> None:
    write_description(
        task,
        labels,
        vocabulary,
        embedding_type="event",
        prediction_type="multilabel",
        split_mode="trainvaltest",
        sample_duration=mixture.seconds,
        evaluation=["event_onset_200ms_fms", "segment_1s_er"],
        evaluation_params={
            "event_postprocessing_grid": EVENT_POSTPROCESSING,
            **({"task_specific_param_grid": dict(grid)} if grid else {}),
        },
        mixture=asdict(mixture),
    )


def _in_turn(things: Sequence[T], rng: np.random.Generator) -> Iterator[T]:
    """Yield things without end, in another order every time round; nothing if there are none."""
    while things:
        yield from (things[index] for index in rng.permutation(len(things)))


def _sound(path: Path, mixture: Mixture) -> np.ndarray:
    waveform = read_recording(path, mixture.sample_rate)
    if not waveform.any():
        msg = f"{path} is silent: there is nothing to mix"
        raise AudioError(msg)
    return trim(waveform, mixture.sample_rate)


def _stretch(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random stretch; what is too short goes back and forth, which makes no click."""
    if len(waveform) < samples:
        return np.pad(waveform, (0, samples - len(waveform)), mode="symmetric")
    start = int(rng.integers(len(waveform) - samples, endpoint=True))
    return waveform[start : start + samples]


def _level(waveform: np.ndarray, level: float) -> np.ndarray:
    """Return a copy of this root mean square; silence stays silence."""
    found = np.sqrt(np.square(waveform, dtype=np.float64).mean())
    return waveform * np.float32(level / found if found else 0)


def _faded(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    length = min(round(_FADE * sample_rate), len(waveform) // 2)
    ramp = np.ones(len(waveform), np.float32)
    ramp[:length] = np.arange(1, length + 1) / (length + 1)
    return waveform * ramp * ramp[::-1]


def _place(
    label: str,
    length: int,
    placed: Iterable[_Placed],
    mixture: Mixture,
    rng: np.random.Generator,
) -> int | None:
    """Return the first sample of an event, any of those that are possible, if there are some."""
    layers = np.zeros(mixture.samples, np.int32)
    apart = round(_APART * mixture.sample_rate)
    for other in placed:
        layers[other.start : other.stop] += 1
        if other.label == label:
            layers[max(0, other.start - apart) : other.stop + apart] = mixture.polyphony
    full = np.concatenate([[0], np.cumsum(layers >= mixture.polyphony)])
    free = np.flatnonzero(full[length:] == full[:-length])
    return int(free[rng.integers(len(free))]) if len(free) else None


def _in_milliseconds(event: Sounding) -> dict[str, object]:
    return {
        "label": event.label,
        "start": round(1000 * event.onset, 3),
        "end": round(1000 * event.offset, 3),
    }
