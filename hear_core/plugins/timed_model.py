"""Scores over time: base classes of taggers and detectors and of their streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hear_core.audio.reading import AudioBlocks, as_waveform, read_blocks
from hear_core.events.timed_scores import TimedScores
from hear_core.zoo.labels import group_scores

_BLOCK = 60.0  # seconds of a recording that are in memory at a time


class ScoreStream:
    """Base class of streams that take chunks of a waveform and return final scores."""

    def feed(self, chunk: np.ndarray) -> TimedScores:
        """Take the next samples, and return the rows that have become final; often none.

        Args:
            chunk: Waveform (samples,), floating-point, in [-1, 1], at the model's sample rate; may
                be empty.

        Raises:
            AudioError: The chunk has another shape or type, or holds NaN. The stream is unchanged.
        """
        raise NotImplementedError

    def finish(self, chunk: np.ndarray | None = None) -> TimedScores:
        """Return the remaining rows; the stream takes no more chunks.

        Args:
            chunk: The last samples, if any.

        Raises:
            AudioError: The chunk has another shape or type, or holds NaN. The stream is unchanged.
        """
        raise NotImplementedError

    def run(self, blocks: AudioBlocks) -> Iterator[TimedScores]:
        """Yield the rows of a recording that is read in blocks, in parts with at least one row.

        No row ends after the recording, not even by a part of a sample.

        Args:
            blocks: Waveforms (samples,), one after another.
        """
        last: np.ndarray | None = None
        for block in blocks:
            if last is not None and len((found := self.feed(last)).scores):
                yield found.until(blocks.seconds)
            last = block
        # The end is processed together with the last block, in one batch.
        if len((found := self.finish(last)).scores):
            yield found.until(blocks.seconds)


class TimedModel:
    """Base class of models that compute scores of classes over time.

    Attributes:
        sample_rate: Sample rate in Hz of the waveforms that the model takes.
        labels: Names of the classes.
        thresholds: Score from which a class counts as present, by label, where the checkpoint has
            such thresholds.
    """

    sample_rate: int
    labels: tuple[str, ...]
    thresholds: Mapping[str, float]

    def blocks(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> AudioBlocks:
        """Return audio in blocks of a minute at the model's sample rate, (samples,), float32.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            sample_rate: Sample rate of the waveform in Hz; the model's by default.

        Raises:
            AudioError: The file cannot be read, or the waveform is not a finite float array.
        """
        size = round(_BLOCK * self.sample_rate)
        if isinstance(audio, str | Path):
            return read_blocks(audio, self.sample_rate, size)
        waveform = as_waveform(audio, sample_rate or self.sample_rate, self.sample_rate)
        blocks = (waveform[start : start + size] for start in range(0, len(waveform), size))
        return AudioBlocks(blocks, len(audio) / (sample_rate or self.sample_rate))


def join_scores(parts: Sequence[TimedScores]) -> TimedScores:
    """Return the rows of several parts of a recording as one.

    Args:
        parts: Scores of consecutive parts, at least one.
    """
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    names = ("scores", "onset", "offset", "start", "end", "features")
    return TimedScores(parts[0].labels, **{name: joined(name) for name in names})


def group_classes(scores: TimedScores, groups: Mapping[str, Sequence[str]]) -> TimedScores:
    """Return scores of groups of classes, each the highest of its members.

    Args:
        scores: Scores of all classes.
        groups: Labels by the name of the group; a single class is a group of one.
    """
    return scores.with_scores(list(groups), group_scores(scores.scores, scores.labels, groups))
