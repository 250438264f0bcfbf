"""Embedding on a Ray cluster: one actor for every GPU, or every CPU, with a model each.

The actors write the output files themselves, so that no embedding travels: what they read and
write must be at the same path on every machine. The cluster is the one that ``RAY_ADDRESS`` names;
without it one is started on this machine for as long as the process lives.
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
from hear_eval.embeddings.index import Entry
from hear_eval.embeddings.of_files import Recipe, Unit, load, process

_UNITS_A_BATCH = 16
_BLOCKS_AN_ACTOR = 4  # so that the last ones end at about the same time
# Only names and entries pass through the store, so that it can be small.
_OWN_CLUSTER: dict[str, Any] = {
    "address": "local",
    "include_dashboard": False,
    "object_store_memory": 128 << 20,
}


def process_on_ray(recipe: Recipe, units: Iterable[Unit], out: Path) -> Iterator[list[Entry]]:
    """Do what `hear_eval.embeddings.of_files.process` does, on the actors of a cluster.

    Units come back in the order in which they are finished.
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
    batch = max(1, min(_UNITS_A_BATCH, len(rows) // actors))
    blocks = min(len(rows), _BLOCKS_AN_ACTOR * actors)
    done = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _Worker,
        fn_constructor_args=(recipe, out),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=batch,
        num_cpus=0 if kind == "GPU" else 1,
        num_gpus=1 if kind == "GPU" else 0,
    )
    for row in done.iter_rows():
        yield [Entry(*values) for values in json.loads(row["entries"])]


class _Worker:
    """A model in an actor: takes a batch of units and gives the entries of each."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.plugin, self.recipe, self.out = load(recipe), recipe, out

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        units = [_from_json(text) for text in batch["unit"]]
        found = process(self.plugin, self.recipe, units, self.out)
        return {"entries": np.array([json.dumps(entries) for entries in found])}


def _to_json(unit: Unit) -> str:
    return json.dumps([unit.output, [(str(path), name) for path, name in unit.sources]])


def _from_json(text: str) -> Unit:
    output, sources = json.loads(text)
    return Unit(output, tuple(AudioFile(Path(path), name) for path, name in sources))
