"""Mixing of sound event detection tasks from labelled clips, with exact onsets and offsets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from hear_core.errors import AudioError, ConfigError
from hear_core.events.event import Event
from hear_eval.tasks.audio import SAMPLE_RATES, read_recording
from hear_eval.tasks.description import EVENT_POSTPROCESSING, FIXED_SPLITS
from hear_eval.tasks.writing import LONGEST, new_task, write_audio, write_description

_FRAME = 0.01  # seconds over which the energy of a clip is measured
_FLOOR = -30.0  # dB relative to the loudest frame, below which a frame is silent
_PAUSE = 1.0  # seconds of silence that separate two events in a clip
_GAP = 0.5  # least seconds between two events of a class; a detector would merge closer ones
_FADE = 0.005  # seconds of fade at both ends of an event, so that cuts do not click
_BACKGROUND = 0.01  # root mean square of the background: -40 dB of full scale
_PEAK = 0.99  # greatest amplitude of a scene, relative to full scale
_MOST_EVENTS = 10_000  # in a scene
_LOUDEST = 200.0  # dB, limit of the signal-to-noise ratio

log = logging.getLogger(__name__)
T = TypeVar("T")
# Events by split and file, as tasks store them.
_Labels: TypeAlias = dict[str, dict[str, list[dict[str, object]]]]


class LabelledClip(NamedTuple):
    """An audio file, its class (empty for a background), and its split."""

    path: Path
    label: str
    split: str


@dataclass(frozen=True)
class Mixture:
    """Parameters of the mixing of scenes.

    Args:
        seconds: Length of a scene in seconds.
        sample_rate: Sample rate in Hz of the scenes.
        events: Smallest and largest number of events in a scene. Events that do not fit are left
            out.
        polyphony: Largest number of simultaneous events, which are of different classes.
        snr: Smallest and largest ratio of an event to the background, in dB of power.
        longest: Length in seconds to which longer sounds are truncated.
        seed: Random seed. The same clips and the same seed give the same task, byte by byte.

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
        fewest, most = self.events
        quietest, loudest = self.snr
        rules = {
            f"sample_rate must be from {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1} Hz": (
                self.sample_rate in SAMPLE_RATES
            ),
            f"seconds must be from {_FRAME} to {LONGEST:g}": _FRAME <= self.seconds <= LONGEST,
            f"longest must be at least {_FRAME} seconds": self.longest >= _FRAME,
            f"events must be two numbers from 1 to {_MOST_EVENTS}, the smaller first": (
                1 <= fewest <= most <= _MOST_EVENTS
            ),
            "polyphony must be at least 1": self.polyphony >= 1,
            f"snr must be two numbers of dB from -{_LOUDEST:g} to {_LOUDEST:g}, "
            "the smaller first": -_LOUDEST <= quietest <= loudest <= _LOUDEST,
            "seed must be at least 0": self.seed >= 0,
        }
        for rule, holds in rules.items():
            if not holds:
                msg = f"{rule}, but is {getattr(self, rule.partition(' ')[0])}"
                raise ConfigError(msg)

    @property
    def samples(self) -> int:
        """Number of samples in a scene."""
        return round(self.seconds * self.sample_rate)


class _Placed(NamedTuple):
    label: str
    start: int
    stop: int


def mix_event_task(
    folder: Path,
    name: str,
    clips: Sequence[LabelledClip],
    scenes: Mapping[str, int],
    mixture: Mixture | None = None,
    progress: Callable[[int, int], object] | None = None,
    *,
    grid: Mapping[str, Sequence[object]] | None = None,
) -> Path:
    """Mix a multi-label event task with the splits ``train``, ``valid`` and ``test``.

    Classes take turns, and so do the clips of a class, so that the task is balanced even if the
    clips are not.

    Args:
        folder: Folder in which the folder of the task is made.
        name: Name of the task and of its folder.
        clips: Clips of the three splits. Those with an empty label are backgrounds; without any,
            the background is pink noise.
        scenes: Number of scenes per split.
        mixture: Parameters of the mixing.
        progress: Called after every scene with the number of scenes made and of all scenes.
        grid: Hyperparameters to search, which replace those of the same name in heareval's grid.

    Returns:
        The folder of the task.

    Raises:
        ConfigError: A split is unknown or has no scenes, a class or the backgrounds are missing in
            some of the splits, a file is in two splits, the name cannot be the name of a folder, or
            another process makes the task.
        TaskError: There is a task of this name already.
        AudioError: A clip cannot be read, is truncated or silent, or has samples that are not
            finite.
        FileError: A file cannot be written.
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
) -> tuple[np.ndarray, list[Event]]:
    """Mix one scene.

    Args:
        sounds: Class and waveform (samples,) of each sound, without silence at its ends; see
            `trim_silence`. Sounds that do not fit are left out.
        background: Waveform (samples,) of the length of the scene.
        mixture: Parameters of the mixing.
        rng: Random generator of the positions and levels of events.

    Returns:
        The scene (samples,), float32, and its events sorted by onset.
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
    return scene, [Event(event.label, event.start / rate, event.stop / rate) for event in placed]


def trim_silence(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the part of a clip that is not silent; of several, that with the most energy.

    Args:
        waveform: Waveform (samples,) that is not silent throughout.
        sample_rate: Sample rate of `waveform` in Hz.

    Returns:
        A part of the waveform (samples,).
    """
    size = round(_FRAME * sample_rate)
    padded = np.pad(waveform, (0, -len(waveform) % size)).astype(np.float64)
    energy = (padded.reshape(-1, size) ** 2).sum(1)
    sounding = np.flatnonzero(energy >= energy.max() * 10 ** (_FLOOR / 10))
    pauses = np.flatnonzero(np.diff(sounding) > round(_PAUSE / _FRAME))
    stretch = max(np.split(sounding, pauses + 1), key=lambda frames: energy[frames].sum())
    return waveform[stretch[0] * size : (stretch[-1] + 1) * size]


def pink_noise(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return pink noise (samples,), float32: equal power in every octave above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate), 20))
    return np.fft.irfft(spectrum, samples).astype(np.float32)


def _checked(clips: Iterable[LabelledClip], scenes: Mapping[str, int]) -> list[str]:
    """Return the classes of clips, after checking that a task can be mixed from them."""
    if set(scenes) != set(FIXED_SPLITS) or min(scenes.values()) < 1:
        msg = f"{', '.join(FIXED_SPLITS)} need scenes each, but have {dict(scenes)}"
        raise ConfigError(msg)
    labels: dict[str, set[str]] = {split: set() for split in FIXED_SPLITS}
    split_of: dict[Path, str] = {}
    for clip in clips:
        if clip.split not in labels:
            msg = f"{clip.path} has the split {clip.split!r}, which is not one of {FIXED_SPLITS}"
            raise ConfigError(msg)
        if (other := split_of.setdefault(clip.path.resolve(), clip.split)) != clip.split:
            msg = f"{clip.path} is both in {other} and in {clip.split}; a clip must be in one split"
            raise ConfigError(msg)
        labels[clip.split].add(clip.label)
    every = set().union(*labels.values())
    if not every - {""}:
        msg = "there are no labelled clips to mix"
        raise ConfigError(msg)
    for split in FIXED_SPLITS:
        if missing := sorted(every - labels[split]):
            what = ", ".join(label or "background" for label in missing)
            msg = f"the split {split} has no clips of {what}, but another split has"
            raise ConfigError(msg)
    return sorted(every - {""})


def _scenes(
    clips: Iterable[LabelledClip], mixture: Mixture, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[Event]]]:
    """Yield scenes mixed from the clips of a split, endlessly."""
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
    scenes: Iterable[tuple[np.ndarray, list[Event]]], folder: Path, sample_rate: int
) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Write the scenes of a split; yield the file name and the events of each."""
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
    """Yield things endlessly, shuffled anew in every round; nothing if there are none."""
    while things:
        yield from (things[index] for index in rng.permutation(len(things)))


def _sound(path: Path, mixture: Mixture) -> np.ndarray:
    waveform = read_recording(path, mixture.sample_rate)
    if not waveform.any():
        msg = f"{path} is silent and cannot be mixed; leave it out"
        raise AudioError(msg)
    return trim_silence(waveform, mixture.sample_rate)


def _stretch(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random part; a waveform that is too short is reflected, which avoids clicks."""
    if len(waveform) < samples:
        return np.pad(waveform, (0, samples - len(waveform)), mode="symmetric")
    start = int(rng.integers(len(waveform) - samples, endpoint=True))
    return waveform[start : start + samples]


def _level(waveform: np.ndarray, level: float) -> np.ndarray:
    """Return a copy with this root mean square; silence stays silent."""
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
    """Return a random position in samples at which an event fits, or None."""
    layers = np.zeros(mixture.samples, np.int32)
    apart = round(_GAP * mixture.sample_rate)
    for other in placed:
        layers[other.start : other.stop] += 1
        if other.label == label:
            layers[max(0, other.start - apart) : other.stop + apart] = mixture.polyphony
    full = np.concatenate([[0], np.cumsum(layers >= mixture.polyphony)])
    free = np.flatnonzero(full[length:] == full[:-length])
    return int(free[rng.integers(len(free))]) if len(free) else None


def _in_milliseconds(event: Event) -> dict[str, object]:
    return {
        "label": event.label,
        "start": round(1000 * event.onset, 3),
        "end": round(1000 * event.offset, 3),
    }
