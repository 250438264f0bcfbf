"""Stored predictions of a teacher for the frames of clips.

The files are those of PretrainedSED (https://zenodo.org/records/14626113): HDF5 with the datasets
``filenames`` and ``strong_logits`` (clips, classes, frames), float16. They are read clip by clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_core.errors import ConfigError
from hear_core.io.hdf5_files import open_hdf5, read_strings
from hear_train.data.hdf5 import opened

_LOGITS = "strong_logits"


class StoredFrames:
    """Stored predictions for the frames of clips, by the name of the clip.

    EfficientSED finds a clip by its full name, and PretrainedSED by its name without the letters
    ``m``, ``p`` and ``3`` and dots at its end, which also shortens some identifiers. Both spellings
    are found.

    Args:
        path: HDF5 file.
        temperature: Divides the logits before the sigmoid.

    Attributes:
        classes: Number of classes.
        frames: Number of frames of a clip.

    Raises:
        ConfigError: The file is missing or has another layout.
    """

    def __init__(self, path: Path, temperature: float = 1.0) -> None:
        self.path, self.temperature = path, temperature
        if not path.is_file():
            msg = f"the file of teacher predictions {path} does not exist"
            raise ConfigError(msg)
        layout = f"of predictions for frames, with the datasets filenames and {_LOGITS}"
        with open_hdf5(path, layout) as file:
            names = read_strings(file, "filenames")
            shape: tuple[int, ...] = file[_LOGITS].shape if _LOGITS in file else ()
        if len(shape) != 3 or shape[0] != len(names):
            msg = (
                f"{path} must hold logits (clips, classes, frames) for {len(names)} names in "
                f"{_LOGITS}, but its shape is {shape}"
            )
            raise ConfigError(msg)
        _, self.classes, self.frames = shape
        self._rows = {name: row for row, name in enumerate(names)}

    def of(self, clips: Sequence[str]) -> set[str]:
        """Return those of the given clip names that have a row.

        Raises:
            ConfigError: None has a row.
        """
        known = {name for name in clips if self._row(name) is not None}
        if clips and not known:
            msg = (
                f"none of the {len(clips)} clips, such as {clips[0]}, has a row in {self.path}, "
                f"whose rows have names such as {next(iter(self._rows), '')!r}"
            )
            raise ConfigError(msg)
        return known

    def probabilities(self, name: str) -> np.ndarray:
        """Return the predicted probabilities of a clip, (classes, frames), float32."""
        row = self._row(name)
        logits = np.asarray(opened(self.path)[_LOGITS][row], np.float32)
        return 1 / (1 + np.exp(-logits / self.temperature))

    def _row(self, name: str) -> int | None:
        name = name.rpartition("/")[2]
        for spelling in (name, name.rpartition(".")[0], name.rstrip(".mp3")):
            for known in (spelling, f"Y{spelling}", f"Y{spelling}.mp3", f"{spelling}.mp3"):
                if known in self._rows:
                    return self._rows[known]
        return None
