"""Speed of live tagging against real time: ``python -m benchmarks.streaming``."""

from __future__ import annotations

import argparse
import time

import torch

from hear_mn import ZOO, EATagger, TagStream

SECONDS, CHUNK = 60, 0.02


def main() -> None:
    """Feed a minute of noise in chunks of 20 ms, and print the speed and the longest delay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=["mn04_as", "mn10_as"], choices=ZOO)
    parser.add_argument("--windows", nargs="*", type=float, default=[1.0, 2.0, 10.0])
    parser.add_argument(
        "--hop", type=float, default=0.5, help="Time from one window to the next in seconds."
    )
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, a window every {arguments.hop} s")
    for backbone in arguments.backbones:
        tagger = EATagger(backbone, pretrained=False)
        sample_rate = tagger.sample_rate
        noise = (torch.rand(SECONDS * sample_rate) - 0.5).numpy()
        for window in arguments.windows:
            stream = TagStream(tagger, window, arguments.hop)
            step, longest = round(CHUNK * sample_rate), 0.0
            stream.feed(noise[: round(window * sample_rate)])
            begin = time.perf_counter()
            for first in range(round(window * sample_rate), len(noise), step):
                start = time.perf_counter()
                stream.feed(noise[first : first + step])
                longest = max(longest, time.perf_counter() - start)
            speed = (SECONDS - window) / (time.perf_counter() - begin)
            print(
                f"{backbone}, windows of {window:g} s: {speed:.0f} times faster than real time; "
                f"the longest delay was {1000 * longest:.0f} ms"
            )


if __name__ == "__main__":
    main()
