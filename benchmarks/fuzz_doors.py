"""The doors of the project: each takes input that anybody may have made, or that is damaged.

A door prepares valid input once, and then sends one mutation of it through the project. That ends
with a result that is checked, or with an error of the project. Everything else is a fault: another
exception, or a `WrongResultError` where a result disagrees with an independent computation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import fuzz_files as files
from benchmarks import fuzz_folders as folders


class Door(NamedTuple):
    """A way into the project.

    Attributes:
        prepare: Makes valid input in a folder, and returns it.
        attempt: Sends one mutation through: takes the valid input, an empty folder, the generator
            of the mutation, and the path of the file that code in the input would make.
        weight: Share of the inputs.
    """

    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, Path, random.Random, Path], None]
    weight: float


DOORS: Mapping[str, Door] = {
    "audio files": Door(files.prepare_audio, files.attempt_audio, 4.0),
    "tensors": Door(files.prepare_tensors, files.attempt_tensor, 0.6),
    "YAML": Door(files.prepare_yaml, files.attempt_yaml, 2.0),
    "JSON and pickles": Door(files.prepare_json, files.attempt_json, 2.0),
    "tables": Door(files.prepare_tables, files.attempt_table, 1.0),
    "HDF5 and arrays": Door(files.prepare_hdf5, files.attempt_hdf5, 1.5),
    "checkpoints": Door(files.prepare_checkpoints, files.attempt_checkpoint, 0.4),
    "task folders": Door(folders.prepare_tasks, folders.attempt_task, 0.7),
    "embedding folders": Door(folders.prepare_embedded, folders.attempt_embedded, 0.7),
    "run folders": Door(folders.prepare_runs, folders.attempt_run, 0.6),
    "options": Door(folders.prepare_options, folders.attempt_options, 0.5),
}
"""Doors by name."""
