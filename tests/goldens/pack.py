"""Selection and thinning of golden arrays: ``python -m tests.goldens.pack SOURCE``.

SOURCE is a folder with the full parity packs, from which the files here were made.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np

from tests.goldens.arrays import FOLDER, thinned

# Most values that are kept of an array of floats, by file or by file and end of the array's name,
# where the longest end that fits decides. None keeps all, as inputs and small arrays need.
ARRAYS: dict[str, int | None] = {
    "mn/calib": None,
    "mn/melbanks": None,
    "mn/spectrograms": 4000,
    "mn/spectrograms:default": None,
    "mn/networks": 400,
    "mn/hear_scene_calib": 400,
    "mn/hear_scene_plain_first_clip": 100,
    "mn/hear_scene_25s_calib": None,
    "mn/hear_timestamps": 2000,
    "sed/BEATs": 2000,
    "sed/ATST-F": 2000,
    "sed/fpasst": 2000,
    "sed/M2D": 2000,
    "sed/ASIT": 2000,
    "sed/fmn04": 2000,
    "sed/fmn06": 2000,
    "sed/fmn10": 2000,
    "sed/fmn20": 2000,
    "sed/fmn30": 2000,
    "sed/fmn_seq_full": 1000,
    "sed/seq_attn": 1000,
    "sed/seq_gru": 1000,
    "sed/seq_hybrid": 1000,
    "sed/seq_tcn": 1000,
    "sed/seq_tf": 1000,
    "sed/frontends": 6000,
    "sed/frontends:fmn_mel": None,
    "sed/frontends:_bank": None,
    "sed/inference_long": 4000,
    "sed/inference_long:_selected": None,
    "sed/panns": 3000,
    "sed/panns:logmel": None,
    "sed/panns:melW": None,
    "sed/psds": None,
    "sed/dcase2016": None,
    "train/efficientat": None,
    "train/efficientat_losses": None,
    "train/efficientat_mn04_steps": None,
    "train/efficientsed_data": 3000,
    "train/efficientsed_data:aug_x": None,
    "train/efficientsed_data:aug_teacher": None,
    "train/efficientsed_data:filter_x": None,
    "train/efficientsed_data:warp_x": None,
    "train/efficientsed_losses": None,
    "train/efficientsed_steps": None,
    "train/metrics": None,
    "train/panns": None,
    "train/panns_steps": None,
}
FACTS = (
    *("mn/checkpoints", "mn/complexity", "mn/manifests", "mn/metro", "mn/modules", "mn/networks"),
    *("sed/checkpoints", "sed/metrics", "sed/index", "sed/labels_audioset_strong_eval_416"),
    *("sed/labels_audioset_strong_447", "sed/labels_audioset_527"),
    *("train/efficientsed_labels", "train/efficientsed_param_groups"),
)


def most(file: str, name: str) -> int | None:
    """Return how many values of an array are kept, or None for all."""
    ends = [
        end for end in ARRAYS if end.startswith(f"{file}:") and name.endswith(end.split(":")[1])
    ]
    return ARRAYS[max(ends, key=len, default=file)]


def find(source: Path, file: str, suffixes: tuple[str, ...]) -> Path:
    """Return where the source has a file."""
    folder, name = file.split("/", 1)
    places = [source / folder, source / folder / "goldens"]
    return next(p for place in places for s in suffixes if (p := place / f"{name}{s}").is_file())


def write_facts(path: Path, facts: object) -> None:
    """Write JSON, compressed, to the same bytes whenever it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read_facts(path: Path) -> object:
    """Read JSON, compressed or not, or the rows of a table."""
    content = path.read_bytes()
    if path.suffix == ".csv":
        return list(csv.DictReader(content.decode("utf-8").splitlines()))
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def main(source: Path) -> None:
    """Write everything that the tables above list."""
    for file in ARRAYS:
        if ":" in file:
            continue
        with np.load(find(source, file, (".npz",))) as full:
            kept = dict(
                thinned(name, full[name], most(file, name) or full[name].size)
                for name in full.files
            )
        (FOLDER / file).parent.mkdir(exist_ok=True)
        np.savez_compressed(FOLDER / f"{file}.npz", **kept)
    for file in FACTS:
        facts = read_facts(find(source, file, (".json", ".json.gz", ".csv")))
        write_facts(FOLDER / f"{file}.json.gz", facts)
    for path in (source / "sed" / "manifests").iterdir():
        write_facts(FOLDER / "sed" / "manifests" / path.name, read_facts(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
