"""Speed of evaluation, by heareval and by us: ``python -m benchmarks.evaluation [FOLDER...]``.

Each runs in its own process with two threads, one after the other, on the same folders: those that
are given, and a synthetic task of 20,000 clips, whose metadata limit the number of epochs, since
heareval would take hours on it otherwise.
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
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe_machine, results_file
from benchmarks.measure import best

CLIPS, DIMENSIONS, CLASSES = {"train": 16000, "valid": 2000, "test": 2000}, 1432, 35
ROOT = Path(__file__).parents[1]
PROGRAMS = ("heareval", "ours, float32", "ours")


def write_task_embeddings(folder: Path, epochs: int) -> Path:
    """Write a folder of embeddings in heareval's format: one centre per class, with strong noise.

    Args:
        folder: Folder to make.
        epochs: Largest number of epochs, for the metadata.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIMENSIONS)).astype(np.float32)
    metadata = {
        "task_name": "synthetic",
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


def measure(program: str, folder: Path, grid_points: int) -> dict[str, float]:
    """Return wall time and CPU time in seconds, peak memory in MB, and the mean test score.

    ``limit`` is the time in seconds that the matrix products of our training steps take at the
    speed of a large product in the same precision.

    Args:
        program: One of `PROGRAMS`.
        folder: Folder of the embeddings of a task.
        grid_points: Number of points of the hyperparameter grid.
    """
    torch.set_num_threads(2)
    limit = 0.0
    if program == "heareval":
        from heareval.predictions import task_predictions as heareval

        logging.disable()
        size = json.loads(next(folder.glob("*.embedding-dimensions.json")).read_text())[1]
        before = _start_measuring()
        heareval.task_predictions(
            embedding_path=folder,
            embedding_size=size,
            grid_points=grid_points,
            gpus=None,
            in_memory=True,
            deterministic=True,
            grid="default",
            logger=logging.getLogger(__name__),
        )
        scores = json.loads((folder / "test.predicted-scores.json").read_text())
    else:
        from hear_eval.downstream.evaluation import EvaluationSettings, evaluate

        precision = program.partition(", ")[2] or "auto"
        multiplications = _counted_multiplications()
        before = _start_measuring()
        scores = evaluate(
            folder, EvaluationSettings(grid_points=grid_points, device="cpu", precision=precision)
        )
    memory = _memory("VmHWM") - before[2]
    seconds, cpu_seconds, _ = (
        now - then for now, then in zip(_start_measuring(), before, strict=True)
    )
    if program != "heareval":
        limit = sum(multiplications) * _seconds_per_multiplication(precision)
    folds = scores.get("aggregated_scores") or scores["test"]
    score = folds.get("test_score_mean", folds.get("test_score"))
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "megabytes": memory, "score": score}
    return {**found, "limit": limit}


def _counted_multiplications() -> list[float]:
    """Let every training step append the number of multiplications of its matrix products."""
    from hear_eval.downstream.predictors import Predictors

    step, counts = Predictors.train_step, list[float]()

    def counted(self: Any, rows: torch.Tensor, *others: Any) -> None:
        sizes = [layer.weight[0].numel() for layer in self._layers]
        # Forwards, gradient of the weights, and gradient of the inputs of all layers but the first.
        counts.append(len(self) * rows.shape[-2] * (3 * sum(sizes) - sizes[0]))
        step(self, rows, *others)

    Predictors.train_step = counted  # type: ignore[method-assign]
    return counts


def _seconds_per_multiplication(precision: str, size: int = 1024) -> float:
    from hear_eval.downstream.predictors import choose_device_and_dtype

    matrix = torch.rand(size, size).to(choose_device_and_dtype("cpu", precision).dtype)
    return best(lambda: matrix @ matrix, seconds=1.0) / size**3


def _start_measuring() -> tuple[float, float, float]:
    """Reset the peak memory, and return wall time, CPU time and resident memory in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return time.perf_counter(), time.process_time(), _memory("VmRSS")


def _memory(field: str) -> float:
    """Return a field of the memory statistics of this process in MB."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure every program on every folder, print a table and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--epochs", type=int, default=6, help="Number of epochs on the synthetic task."
    )
    parser.add_argument(
        "--points", type=int, default=4, help="Number of grid points on the synthetic task."
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # heareval prints to standard output
        found = measure(arguments.measure, arguments.folders[0], arguments.points)
        print(json.dumps(found), file=output)
        return
    lines = [
        "# Downstream evaluation",
        "",
        f"{describe_machine()}; in one run. `python -m benchmarks.evaluation FOLDER...` writes "
        "this page. ESC-10 has 400 embeddings of 911 "
        "dimensions and 5 folds, and is evaluated with 8 points of the grid. The synthetic task "
        f"has {sum(CLIPS.values())} embeddings of {DIMENSIONS} dimensions and {CLASSES} classes; "
        f"it is trained for {arguments.epochs} epochs at {arguments.points} points. Memory is the "
        "peak above that before the evaluation. The ratio in brackets is that of the CPU time. "
        "*GEMM limit* is the time of the matrix products of the training steps at the speed of a "
        "large product on two threads, in the same precision.",
        "",
        "| task | program | seconds | ratio | GEMM limit, s | memory, MB | embeddings, MB "
        "| test score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        made = write_task_embeddings(scratch / "synthetic", arguments.epochs)
        for source in (*(folder.absolute() for folder in arguments.folders), made):
            lines += compare(source, scratch, arguments.points if source == made else 8)
    text = "\n".join(lines) + "\n"
    results_file(__file__).write_text(text, encoding="utf-8")
    print(text)


def compare(source: Path, scratch: Path, grid_points: int) -> list[str]:
    """Measure every program on a folder, and return the rows of the table.

    Args:
        source: Folder of the embeddings of a task, which is copied.
        scratch: Folder for the copy.
        grid_points: Number of points of the hyperparameter grid.
    """
    lines, first = [], None
    embeddings = sum(path.stat().st_size for path in source.glob("*.embeddings.npy")) / 2**20
    for program in PROGRAMS:
        folder = scratch / "copy"
        results = shutil.ignore_patterns("*predict*", ".evaluation*")
        shutil.copytree(source, folder, ignore=results)
        command = [sys.executable, "-m", "benchmarks.evaluation", str(folder), "--measure", program]
        result = subprocess.run(
            [*command, "--points", str(grid_points)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            cwd=scratch,  # heareval writes logs to its working directory
            env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": str(ROOT)},
        )
        shutil.rmtree(folder)
        found = json.loads(result.stdout)
        first = first or found
        ratios = [first[key] / found[key] for key in ("seconds", "cpu_seconds")]
        lines.append(
            f"| {source.name} | {program} | {found['seconds']:.1f} "
            f"| {ratios[0]:.1f} ({ratios[1]:.1f}) | {found['limit']:.1f} "
            f"| {found['megabytes']:.0f} | {embeddings:.0f} | {found['score']:.3f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    main()
