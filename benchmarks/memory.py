"""Peak memory of commands on a long recording: ``python -m benchmarks.memory``.

The recording is noise, which takes the same memory as any other audio, and the weights are random.
Every command runs in a process of its own, and its peak is what Linux reports for that process.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

SAMPLE_RATE, CHANNELS = 48_000, 2
LIMIT_MB = 700
COMMANDS: dict[str, tuple[str, ...]] = {
    "hear tag": ("tag", "{audio}"),
    "hear tag --events": ("tag", "{audio}", "--events"),
    "hear detect": ("detect", "{audio}"),
    "hear embed": ("embed", "hear_mn.mn10_all_b_mel_avgs", "{audio}", "-o", "{out}"),
    "hear embed --timestamps": (
        *("embed", "hear_mn.mn10_all_b_mel_avgs", "{audio}", "-o", "{out}", "--timestamps"),
    ),
}
"""Commands by the name that they are reported by."""

_PROGRAM = """
import atexit, sys
from hear_cli.main import main
atexit.register(lambda: sys.stderr.write(open("/proc/self/status").read()))
main()
"""


def write_recording(path: Path, hours: float) -> None:
    """Write stereo noise at 48 kHz.

    Args:
        path: File to write.
        hours: Duration in hours.
    """
    rng = np.random.default_rng(0)
    minute = rng.normal(0, 0.1, (60 * SAMPLE_RATE, CHANNELS)).astype(np.float32)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, CHANNELS) as file:
        for _ in range(round(hours * 60)):
            file.write(minute)


def peak_memory(arguments: list[str]) -> float:
    """Run ``hear`` in a process of its own, and return its peak memory in megabytes.

    Args:
        arguments: Arguments of the command.

    Raises:
        RuntimeError: The command fails.
    """
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments, "--random-weights"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    peak = re.search(r"VmHWM:\s+(\d+) kB", result.stderr)
    if result.returncode or not peak:
        raise RuntimeError(result.stderr)
    return int(peak[1]) / 1000


def main() -> None:
    """Print a table of the peak memory of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=3.0, help="duration of the recording")
    parser.add_argument("--only", help="measure only the command of this name")
    options = parser.parse_args()
    print(f"{options.hours:g} hours of {SAMPLE_RATE // 1000} kHz stereo; limit {LIMIT_MB} MB\n")
    print("| command | peak MB | seconds |\n|---|---|---|", flush=True)
    with TemporaryDirectory() as folder:
        audio = Path(folder, "recording.wav")
        write_recording(audio, options.hours)
        for number, (name, command) in enumerate(COMMANDS.items()):
            if options.only in (None, name):
                out, start = Path(folder, f"out{number}"), time.perf_counter()
                peak = peak_memory([part.format(audio=audio, out=out) for part in command])
                print(f"| `{name}` | {peak:.0f} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
