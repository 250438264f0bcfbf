"""Measurement of one engine on one backbone, printed as JSON.

Each measurement has its own process, because the idle threads of one engine take time from another.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

_START = time.perf_counter()

import torch  # noqa: E402

_TORCH = time.perf_counter()

from benchmarks.original import Original  # noqa: E402
from hear_mn import ZOO, mn04_e1_l  # noqa: E402

SAMPLE_RATE, SECONDS, BATCH = 32000, 10, 32


def measure(backbone: str, engine: str) -> dict[str, float]:
    """Return times in seconds, and the throughput in seconds of audio per second.

    Args:
        backbone: Name of a backbone; its weights are random, which does not change the speed.
        engine: ``original``, or an engine of this project, followed by ``:cuda`` or
            ``:cuda-float32`` for a GPU.
    """
    name, _, place = engine.partition(":")
    device = "cuda" if place else "cpu"
    if name == "original":
        model = Original(ZOO.random_init(backbone).to(device), half=place == "cuda")
    else:
        autocast = place != "cuda-float32"
        model = mn04_e1_l.load_model(
            pretrained=False, backbone=backbone, engine=name, autocast=autocast
        ).to(device)
    clip = _sound(1).to(device)
    first = model.get_scene_embeddings(clip).cpu()
    start_up = time.perf_counter() - _START
    assert first.shape[0] == 1
    found = {
        "start_up": start_up,
        "torch": _TORCH - _START,
        "scene": best(lambda: model.get_scene_embeddings(clip).cpu(), seconds=1.5),
        "timestamps": best(lambda: model.get_timestamp_embeddings(clip)[0].cpu(), seconds=3.0),
    }
    batch = _sound(BATCH).to(device)
    if name != "original":
        seconds = best(lambda: model.get_scene_embeddings(batch).cpu(), seconds=3.0)
        found["throughput"] = BATCH * SECONDS / seconds
    return found


def best(call: Callable[[], object], seconds: float) -> float:
    """Return the duration of the fastest of several calls; other processes slow down the others.

    Args:
        call: Function to measure.
        seconds: Time to spend on calls, at least three of them.
    """
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _sound(clips: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(clips, SECONDS * SAMPLE_RATE, generator=generator) - 0.5


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
