"""Speed of embedding HEAR tasks, by ``hear run`` and by heareval: ``python -m benchmarks.running``.

The two alternate, each in its own process. The time to load the model is not included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from hear_eval.tasks.writing import write_audio, write_description

MODULE, OPTIONS, SAMPLE_RATE = "hear_mn.mn04_e1_l", {"pretrained": False}, 32000
TASKS = {
    "scene": (400, 5.0),
    "event": (60, 20.0),
}
"""Number and length in seconds of the clips: as in ESC-10, and in a task mixed from it."""
SPLITS = ("train", "valid", "test")
PROGRAMS = ("heareval", "hear run")


def write_task(folder: Path, kind: str) -> None:
    """Write a task of noise, which takes the same time as any other audio.

    Args:
        folder: Folder to make.
        kind: A key of `TASKS`.
    """
    clips, seconds = TASKS[kind]
    rng = np.random.default_rng(0)
    labels: dict[str, dict[str, list[object]]] = {split: {} for split in SPLITS}
    for i in range(clips):
        split = SPLITS[i % 3]
        noise = rng.uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)).astype(np.float32)
        write_audio(folder / str(SAMPLE_RATE) / split / f"{i}.wav", noise, SAMPLE_RATE)
        starts = np.linspace(0, 900 * seconds, 6).tolist()
        events = [{"label": "a", "start": start, "end": start + 2000} for start in starts]
        labels[split][f"{i}.wav"] = ["a"] if kind == "scene" else list(events)
    write_description(
        folder,
        labels,
        ["a", "b"],
        embedding_type=kind,
        prediction_type="multiclass" if kind == "scene" else "multilabel",
        split_mode="trainvaltest",
        sample_duration=seconds,
        evaluation=["top1_acc"],
    )


def measure(program: str, task: Path) -> dict[str, float]:
    """Return the wall time and the CPU time of embedding a task in seconds.

    Args:
        program: One of `PROGRAMS`.
        task: Folder of the task.
    """
    with TemporaryDirectory() as out:
        target = Path(out) / task.name
        if program == "heareval":
            from heareval.embeddings.task_embeddings import Embedding, task_embeddings

            embedding = Embedding(MODULE, None, OPTIONS)
            start, cpu_start = time.perf_counter(), time.process_time()
            task_embeddings(embedding, task, target)
        else:
            from hear_eval.embeddings.plugin import Plugin
            from hear_eval.embeddings.tasks import run_task

            plugin = Plugin(MODULE, options=OPTIONS)
            start, cpu_start = time.perf_counter(), time.process_time()
            for _ in run_task(plugin, task, target):
                pass
        return {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
        }


def fastest(turns: list[dict[str, float]]) -> dict[str, float]:
    """Return the smallest value of every measurement; other processes make it larger."""
    return {key: min(turn[key] for turn in turns) for key in turns[0]}


def main() -> None:
    """Measure both programs on both tasks, print a table and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        program, task = arguments.measure
        found = measure(program, Path(task))
        print(json.dumps(found))
        return
    lines = [
        "# Embedding HEAR tasks",
        "",
        f"{MODULE} with random weights, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}. The fastest of {arguments.turns} turns counts. The scene task has "
        "400 clips of 5 s, the event task has 60 of 20 s with an embedding every 50 ms. If other "
        "processes share the machine, compare the CPU time.",
        "",
        "| task | program | seconds | ratio | CPU seconds | ratio | times real time |",
        "|---|---|---|---|---|---|---|",
    ]
    with TemporaryDirectory() as folder:
        for kind, (clips, seconds) in TASKS.items():
            task = Path(folder) / kind
            write_task(task, kind)
            turns: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
            for program in PROGRAMS * arguments.turns:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.running",
                    "--measure",
                    program,
                    str(task),
                ]
                result = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
                )
                turns[program].append(json.loads(result.stdout.splitlines()[-1]))
                print(kind, program, turns[program][-1], file=sys.stderr)
            best = {program: fastest(found) for program, found in turns.items()}
            for program, found in best.items():
                cells = [
                    f"{found[key]:.1f} | {best['heareval'][key] / found[key]:.1f}"
                    for key in ("seconds", "cpu_seconds")
                ]
                speed = clips * seconds / found["seconds"]
                lines.append(f"| {kind} | {program} | {' | '.join(cells)} | {speed:.0f} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
