"""Embedding on a Ray cluster: one actor per GPU, or per CPU, with a model each.

The actors write the output files themselves, so that no embedding is transferred: input and output
files must have the same paths on every machine. The cluster is the one that ``RAY_ADDRESS`` names;
without it, one is started on this machine for as long as the process lives.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hear_core.audio.files import AudioFile
from hear_eval.embeddings.local import embed_units
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.units import EmbeddingOptions, FileEntry, OutputUnit

_UNITS_PER_BATCH = 16
_BLOCKS_PER_ACTOR = 4  # so that the actors finish at about the same time
# Only names and entries pass through the object store, so that it can be small.
_OWN_CLUSTER: dict[str, Any] = {
    "address": "local",
    "include_dashboard": False,
    "object_store_memory": 128 << 20,
}


def embed_units_on_ray(
    options: EmbeddingOptions, units: Iterable[OutputUnit], out: Path
) -> Iterator[list[FileEntry]]:
    """Embed units as `hear_eval.embeddings.local.embed_units` does, on the actors of a cluster.

    Units are returned in the order in which they are finished.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    rows = [{"unit": _to_json(unit)} for unit in units]
    if not rows:
        return
    if not ray.is_initialized():
        own = {} if "RAY_ADDRESS" in os.environ else _OWN_CLUSTER
        ray.init(logging_level=logging.WARNING, log_to_driver=False, **own)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    actors = max(1, min(int(resources[kind]), len(rows)))
    batch = max(1, min(_UNITS_PER_BATCH, len(rows) // actors))
    blocks = min(len(rows), _BLOCKS_PER_ACTOR * actors)
    done = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _Worker,
        fn_constructor_args=(options, out),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=batch,
        num_cpus=0 if kind == "GPU" else 1,
        num_gpus=1 if kind == "GPU" else 0,
    )
    for row in done.iter_rows():
        yield [FileEntry(*values) for values in json.loads(row["entries"])]


class _Worker:
    """A model in an actor, called with a batch of units for the entries of each."""

    def __init__(self, options: EmbeddingOptions, out: Path) -> None:
        self.plugin = Plugin(options.module, options.model_file, options.options)
        self.options, self.out = options, out

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        units = [_from_json(text) for text in batch["unit"]]
        found = embed_units(self.plugin, self.options, units, self.out)
        return {"entries": np.array([json.dumps(entries) for entries in found])}


def _to_json(unit: OutputUnit) -> str:
    return json.dumps([unit.output, [(str(path), name) for path, name in unit.sources]])


def _from_json(text: str) -> OutputUnit:
    output, sources = json.loads(text)
    return OutputUnit(output, tuple(AudioFile(Path(path), name) for path, name in sources))
