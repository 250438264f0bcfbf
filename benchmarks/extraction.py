"""Speed of extraction: ``make benchmark`` prints a table and writes it to a file.

Every time is the best of several processes. The engines alternate, so that all are measured under
the same load of the machine. Ratios are to the algorithm of the original, `benchmarks.original`, in
the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

import torch
from torch import nn

from benchmarks.machine import describe_machine, results_file
from benchmarks.measure import best
from hear_core.analysis.complexity import complexity
from hear_core.runtime.engines import onnx_available
from hear_mn import ZOO

_SPREAD = 0.05
_MOST = 3
BACKBONES = ("mn04_as", "mn10_as", "mn40_as")


def main() -> None:
    """Measure every engine on every backbone, print a table and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="Number of processes for each measurement."
    )
    parser.add_argument("--backbones", nargs="*", default=BACKBONES, choices=sorted(ZOO))
    arguments = parser.parse_args()
    text = report(tuple(arguments.backbones), arguments.rounds)
    print(text)
    results_file(__file__).write_text(text, encoding="utf-8")


def report(backbones: tuple[str, ...], rounds: int) -> str:
    """Return the measurements as a Markdown table, with a description of the machine.

    Args:
        backbones: Names of backbones in the zoo.
        rounds: Number of processes for each measurement.
    """
    engines = ["original", "torch"] + (["onnx"] if onnx_available() else [])
    if torch.cuda.is_available():
        engines += ["original:cuda", "torch:cuda-float32", "torch:cuda"]
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    machine, done = describe_machine(), 0
    while done < rounds or (done < _MOST * rounds and not all(map(_is_settled, found.values()))):
        done += 1
        for backbone in backbones:
            for engine in engines:
                for key, value in _measure(backbone, engine).items():
                    found[backbone, engine][key].append(value)

    gemm = _gemm()
    lines = [
        "# Extraction",
        "",
        f"{machine}; best of {rounds} processes each, engines in turn, and more rounds until the "
        f"two best of each are within {100 * _SPREAD:.0f} %, at most {_MOST} times as many "
        f"({done} here). `python -m benchmarks.extraction` writes this page. The original is its "
        "algorithm, in `benchmarks/original.py`.",
        "",
        "Embeddings of 10 s of audio, logits and e1. *GEMM limit* is the time of the network's "
        f"multiplications at {gemm:.0f} GFLOP/s, the speed of a large matrix product here. "
        "*Throughput* is seconds of audio per second, for scene embeddings in batches. *Start-up* "
        "is the time to the first embedding, importing torch included (in brackets: torch alone).",
        "",
        "| backbone | engine | scene, ms | ratio | timestamps, ms | ratio | GEMM limit, ms "
        "| throughput | start-up, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (backbone, engine), values in found.items():
        reference = found[backbone, "original:cuda" if ":cuda" in engine else "original"]
        cells = [backbone, engine]
        for key in ("scene", "timestamps"):
            best = min(values[key])
            cells += [f"{1000 * best:.1f}", f"{min(reference[key]) / best:.1f}"]
        cells.append(f"{1000 * 2 * complexity(ZOO[backbone]).macs / gemm / 1e9:.1f}")
        cells.append(f"{max(values['throughput']):.0f}" if values["throughput"] else "")
        cells.append(f"{min(values['start_up']):.1f} ({min(values['torch']):.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _is_settled(values: Mapping[str, Sequence[float]]) -> bool:
    """Return whether the two best times of scene and timestamp embeddings are nearly equal."""
    for key in ("scene", "timestamps"):
        best, *others = sorted(values[key])
        if not others or others[0] > (1 + _SPREAD) * best:
            return False
    return True


def _measure(backbone: str, engine: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.measure", backbone, engine]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    print(backbone, engine, result.stdout.decode().strip(), file=sys.stderr)
    return json.loads(result.stdout)


def _gemm(size: int = 1024) -> float:
    """Return the highest speed of a square matrix product in any installed runtime, in GFLOP/s."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    products: list[Callable[[], object]] = [lambda: a @ b]
    if onnx_available():
        import onnxruntime

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = BytesIO()
            product = nn.Linear(size, size, bias=False)
            torch.onnx.export(product, (a,), file, input_names=["a"], dynamo=False)
        session = onnxruntime.InferenceSession(file.getvalue())
        products.append(lambda: session.run(None, {"a": a.numpy()}))
    return 2 * size**3 / min(best(product, seconds=2.0) for product in products) / 1e9


if __name__ == "__main__":
    main()
