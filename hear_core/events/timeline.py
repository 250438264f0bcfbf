"""Plots of a recording over time: log-mel and scores of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.timed_scores import TimedScores
from hear_core.io.files import atomic_write


def plot_timeline(path: Path, log_mel: np.ndarray, scores: TimedScores, top: int) -> None:
    """Write a figure: the log-mel, and below it the scores of the highest classes.

    Args:
        path: File to write; its suffix decides the format.
        log_mel: Log-mel spectrogram (n_mels, frames) of the whole recording.
        scores: Scores of the same recording.
        top: Number of classes to show, those with the highest scores.

    Raises:
        ConfigError: matplotlib is not installed, or does not know the format.
        FileError: The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        msg = "plotting needs matplotlib: install the extra 'plot'"
        raise ConfigError(msg) from None
    shown = np.argsort(-scores.scores.max(0), kind="stable")[:top]
    edges = scores.edges
    figure = Figure(figsize=(10, 3 + 0.25 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.imshow(log_mel, origin="lower", aspect="auto", extent=(0, edges[-1], 0, len(log_mel)))
    above.set_ylabel("mel band")
    rows = np.arange(len(shown) + 1)
    mesh = below.pcolormesh(edges, rows, scores.scores[:, shown].T, vmin=0, vmax=1, cmap="magma")
    below.set_yticks(rows[:-1] + 0.5, [scores.labels[index] for index in shown])
    below.invert_yaxis()
    below.set_xlabel("seconds")
    figure.colorbar(mesh, ax=below, label="score")
    with atomic_write(path) as part:
        try:
            figure.savefig(part, format=path.suffix.lstrip(".").lower() or "png")
        except ValueError as error:
            msg = f"cannot plot to {path}: {error}"
            raise ConfigError(msg) from error
