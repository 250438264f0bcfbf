"""The files that a command is given: those that can be read, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import typer

from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError


class Recordings:
    """Waveforms of audio files; those that cannot be read are reported and left out.

    Args:
        files: To read.
        sample_rate: In Hz, that they are resampled to.
    """

    def __init__(self, files: Sequence[Path], sample_rate: int) -> None:
        self._files, self._sample_rate = files, sample_rate
        self._failures = 0

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield files and their waveforms (samples,)."""
        for file in self._files:
            try:
                waveform = read_audio(file, self._sample_rate).numpy()
            except AudioError as error:
                typer.echo(f"hear: {error}", err=True)
                self._failures += 1
            else:
                yield file, waveform

    def finish(self) -> None:
        """Exit with code 1 if some could not be read, and say how many."""
        if self._failures:
            count = f"{self._failures} of {len(self._files)}"
            typer.echo(f"hear: {count} files could not be read", err=True)
            raise typer.Exit(1)
