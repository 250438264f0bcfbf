"""Downstream evaluation by heareval and by us: ``python -m benchmarks.evaluation [FOLDER…]``.

Each is a process of its own with two threads, one after the other, on the same folders: those of
embeddings that are given, and a made-up task of 20,000 clips. On that one, heareval would take
hours; both train for few epochs, which its metadata says.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

CLIPS, DIMENSIONS, CLASSES = {"train": 16000, "valid": 2000, "test": 2000}, 1432, 35
ROOT = Path(__file__).parents[1]
WAYS = ("heareval", "ours, float32", "ours")


def make(folder: Path, epochs: int) -> Path:
    """Write a folder of embeddings as heareval does: points of classes, with much noise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIMENSIONS)).astype(np.float32)
    metadata = {
        "task_name": "made-up",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "sample_duration": 1.0,
        "splits": [*CLIPS],
        "evaluation": ["top1_acc"],
        "evaluation_params": {"task_specific_param_grid": {"max_epochs": [epochs]}},
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    rows = [f"{i},{i}" for i in range(CLASSES)]
    (folder / "labelvocabulary.csv").write_text("\n".join(["idx,label", *rows]) + "\n")
    for split, clips in CLIPS.items():
        index = random.integers(0, CLASSES, clips)
        noise = random.standard_normal((clips, DIMENSIONS), np.float32)
        (centres[index] + 15 * noise).tofile(folder / f"{split}.embeddings.npy")
        (folder / f"{split}.embedding-dimensions.json").write_text(json.dumps([clips, DIMENSIONS]))
        labels = pickle.dumps([[int(i)] for i in index])
        (folder / f"{split}.target-labels.pkl").write_bytes(labels)
    return folder


def measure(way: str, folder: Path, points: int) -> dict[str, float]:
    """Return seconds, seconds of both cores, megabytes taken, and the mean test score."""
    torch.set_num_threads(2)
    if way == "heareval":
        from heareval.predictions import task_predictions as heareval

        logging.disable()
        size = json.loads(next(folder.glob("*.embedding-dimensions.json")).read_text())[1]
        before = _start()
        heareval.task_predictions(
            embedding_path=folder,
            embedding_size=size,
            grid_points=points,
            gpus=None,
            in_memory=True,
            deterministic=True,
            grid="default",
            logger=logging.getLogger(__name__),
        )
        scores = json.loads((folder / "test.predicted-scores.json").read_text())
    else:
        from hear_eval.downstream.evaluation import EvaluationSettings, evaluate

        precision = way.partition(", ")[2] or "auto"
        before = _start()
        scores = evaluate(
            folder, EvaluationSettings(grid_points=points, device="cpu", precision=precision)
        )
    memory = _memory("VmHWM") - before[2]
    seconds, cores, _ = (now - then for now, then in zip(_start(), before, strict=True))
    folds = scores.get("aggregated_scores") or scores["test"]
    score = folds.get("test_score_mean", folds.get("test_score"))
    return {"seconds": seconds, "cores": cores, "megabytes": memory, "score": score}


def _start() -> tuple[float, float, float]:
    """Return seconds, seconds of both cores, and megabytes that are resident: the peak from now."""
    Path("/proc/self/clear_refs").write_text("5")
    return time.perf_counter(), time.process_time(), _memory("VmRSS")


def _memory(field: str) -> float:
    """Return megabytes, as Linux counts them for this process only."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure every way on every folder, and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--epochs", type=int, default=6, help="of the made-up task")
    parser.add_argument("--points", type=int, default=4, help="of the grid, on the made-up task")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # heareval prints
        found = measure(arguments.measure, arguments.folders[0], arguments.points)
        print(json.dumps(found), file=output)
        return
    lines = [
        "# Downstream evaluation",
        "",
        f"2 threads, torch {torch.__version__}, in one run. ESC-10 has 400 embeddings of 911 "
        "dimensions, 5 folds, and is evaluated with 8 points of the grid. The made-up task has "
        f"{sum(CLIPS.values())} of {DIMENSIONS} and {CLASSES} classes; both train for "
        f"{arguments.epochs} epochs at {arguments.points} points. Memory is the peak, less what "
        "was there before. The ratio in brackets is of the seconds in which a core was busy.",
        "",
        "| task | way | seconds | ratio | memory, MB | embeddings, MB | test score |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        made = make(scratch / "made-up", arguments.epochs)
        for source in (*(folder.absolute() for folder in arguments.folders), made):
            lines += compare(source, scratch, arguments.points if source == made else 8)
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def compare(source: Path, scratch: Path, points: int) -> list[str]:
    """Return a row of the table for every way."""
    lines, first = [], None
    embeddings = sum(path.stat().st_size for path in source.glob("*.embeddings.npy")) / 2**20
    for way in WAYS:
        folder = scratch / "copy"
        results = shutil.ignore_patterns("*predict*", ".evaluation*")
        shutil.copytree(source, folder, ignore=results)
        command = [sys.executable, "-m", "benchmarks.evaluation", str(folder), "--measure", way]
        result = subprocess.run(
            [*command, "--points", str(points)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            cwd=scratch,  # heareval leaves logs where it runs
            env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": str(ROOT)},
        )
        shutil.rmtree(folder)
        found = json.loads(result.stdout)
        first = first or found
        ratios = [first[key] / found[key] for key in ("seconds", "cores")]
        lines.append(
            f"| {source.name} | {way} | {found['seconds']:.1f} | {ratios[0]:.1f} ({ratios[1]:.1f}) "
            f"| {found['megabytes']:.0f} | {embeddings:.0f} | {found['score']:.3f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    main()
