"""A picture of what was heard when: the log-mel, and below it the scores of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_core.errors import ConfigError


def draw(
    path: Path,
    log_mel: np.ndarray,
    edges: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    top: int,
) -> None:
    """Write a picture.

    Args:
        path: Of the file; its suffix says the format.
        log_mel: (n_mels, frames).
        edges: Seconds between which the scores hold, (rows + 1,), up to the end of the audio.
        scores: Of the classes, (rows, classes).
        names: Of the classes.
        top: Show so many classes, those with the highest scores.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        msg = "--plot needs matplotlib: install the extra 'plot'"
        raise ConfigError(msg) from None
    shown = np.argsort(-scores.max(0), kind="stable")[:top]
    figure = Figure(figsize=(10, 3 + 0.25 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.imshow(log_mel, origin="lower", aspect="auto", extent=(0, edges[-1], 0, len(log_mel)))
    above.set_ylabel("mel band")
    mesh = below.pcolormesh(
        edges, np.arange(len(shown) + 1), scores[:, shown].T, vmin=0, vmax=1, cmap="magma"
    )
    below.set_yticks(np.arange(len(shown)) + 0.5, [names[index] for index in shown])
    below.invert_yaxis()
    below.set_xlabel("seconds")
    figure.colorbar(mesh, ax=below, label="score")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
