"""Speed and memory of transformers on clips of ten seconds: ``python -m benchmarks.transformers``.

Every measurement has its own process, and engines take turns, so that changes of the clock of the
processor meet all of them. CPU time is measured, which other processes hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.original_transformers import LOG_MELS, PIECE, OriginalTransformer
from hear_sed import Detector

ENGINES = ("original", "torch", "onnx")
HEADING = "## Transformers"


def measure(name: str, engine: str, clips: int) -> dict[str, float]:
    """Return the CPU time of a clip in seconds, and the memory of the process in MB.

    Args:
        name: Name of a detector in the zoo.
        engine: ``original``, or an engine of this project.
        clips: Number of clips of ten seconds, the fastest of which counts.
    """
    generator = torch.Generator().manual_seed(0)
    sound = torch.rand(PIECE, generator=generator) - 0.5
    if engine == "original":
        detector: OriginalTransformer | Detector = OriginalTransformer(name)
    else:
        detector = Detector(name, pretrained=False, engine=engine)
    detector.frames(sound)
    times = []
    for _ in range(clips):
        start = time.process_time()
        detector.frames(sound)
        times.append(time.process_time() - start)
    detector.frames(sound.repeat(6))
    resident = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return {
        "seconds": min(times),
        "megabytes": resident * resource.getpagesize() / 1e6,
    }


def main() -> None:
    """Measure every transformer with every engine, and replace the section of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", nargs="*", default=[*LOG_MELS], choices=LOG_MELS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.clips)))
        return
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    lines = [
        HEADING,
        "",
        "`python -m benchmarks.transformers`: frames of a clip of ten seconds, on "
        f"{_processor()}, {threads} thread, torch {torch.__version__}, random weights. CPU time of "
        f"the fastest clip of {arguments.rounds} alternating rounds, against the steps of "
        "PretrainedSED in the same run; memory of the process after a minute of audio.",
        "",
        "| detector | engine | CPU seconds | ratio | memory, MB |",
        "|---|---|---|---|---|",
    ]
    for name in arguments.detectors:
        found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
        for _ in range(arguments.rounds):
            for engine in ENGINES:
                command = [sys.executable, "-m", "benchmarks.transformers"]
                command += ["--measure", name, engine, "--clips", str(arguments.clips)]
                result = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
                )
                found[engine].append(json.loads(result.stdout))
        best = {engine: min(run["seconds"] for run in runs) for engine, runs in found.items()}
        for engine in ENGINES:
            memory = max(run["megabytes"] for run in found[engine])
            ratio = best["original"] / best[engine]
            lines.append(f"| {name} | {engine} | {best[engine]:.3f} | {ratio:.2f} | {memory:.0f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    page = Path(__file__).with_name("detection.md")
    before = page.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    page.write_text(before + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _processor() -> str:
    """Return the name of the processor, from Linux."""
    names = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line for line in names if line.startswith("model name")), "an unknown processor")
    return name.partition(":")[2].strip() or name


if __name__ == "__main__":
    main()
