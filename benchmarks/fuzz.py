"""Mutated input through every door of the project: ``python -m benchmarks.fuzz``.

For each door of `benchmarks.fuzz_doors`, valid input is mutated with a seed of its own, so that any
input can be made again. Counted are inputs that end with

- a *traceback*: an exception that is not one of the project, a crash, or more than a minute,
- a *wrong* result without a word,
- a file *outside* of the folder that was given,
- *code* that was run because the input says so,
- more *memory* than the budget, on top of what the process had before.

Doors run in processes of their own, with a limit on their memory. Linux only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

INPUTS = 16_500
BUDGET_MB = 700
FAULTS = ("traceback", "wrong", "outside", "code", "memory")
_ADDRESS_SPACE = 8 << 30  # bytes; far less is in use
_LARGEST_FILE = 1 << 30
_SECONDS = 60
_HARMLESS = ("ffmpeg", "ldconfig", "gcc", "/sbin/ldconfig", "objdump", "ld", "uname", "lscpu")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
}


class DoorReport(NamedTuple):
    """Outcome of the inputs of a door.

    Attributes:
        door: Name of the door.
        inputs: Number of inputs.
        results: Number of inputs with a result; all others were refused with an error.
        faults: Number of faults by kind.
        peak_mb: Most memory that an input took, in megabytes.
        details: Description of each fault.
    """

    door: str
    inputs: int
    results: int
    faults: Counter[str]
    peak_mb: float
    details: list[str]


class _TooSlowError(BaseException):
    """The time for an input is over; not an `Exception`, so that no handler takes it."""


def fuzz_door(door: str, inputs: int, seed: int = 0) -> DoorReport:
    """Send mutated inputs through a door, in processes of their own.

    Args:
        door: A key of `benchmarks.fuzz_doors.DOORS`.
        inputs: Number of inputs.
        seed: Seed of the mutations.
    """
    done = results = 0
    peak = 0.0
    faults, details = Counter[str](), list[str]()
    while done < inputs:
        for found in _run_worker(door, done, inputs, seed):
            done = found["index"] + 1
            results += found["result"]
            peak = max(peak, found["peak_mb"])
            faults.update(found["faults"].keys())
            for kind, text in found["faults"].items():
                details.append(f"{door} {found['index']}: {kind}: {text}")
                print(details[-1], file=sys.stderr, flush=True)
        if done < inputs:  # this input has ended the process
            faults["traceback"] += 1
            details.append(f"{door} {done}: traceback: the process has died")
            print(details[-1], file=sys.stderr, flush=True)
            done += 1
    return DoorReport(door, inputs, results, faults, peak, details)


def _run_worker(door: str, first: int, stop: int, seed: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--worker", door]
    command += ["--first", str(first), "--inputs", str(stop), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)


def _work(door_name: str, first: int, stop: int, seed: int) -> None:
    """Send inputs through a door in this process, and write a line of JSON for each."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.lastResort = None
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name in ("valid", "tmp", "cache", "home"):
            (root / name).mkdir()
        os.environ |= {
            "TMPDIR": str(root / "tmp"),
            "HOME": str(root / "home"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "HEAR_CACHE": str(root / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(root / "cache"),
        }
        tempfile.tempdir = str(root / "tmp")
        import torch

        from benchmarks.fuzz_doors import DOORS

        torch.set_num_threads(1)
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, _stop)
        door, valid = DOORS[door_name], DOORS[door_name].prepare(root / "valid")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print whatever they find
        outside, code = _watched(root)
        before = {path.name for path in root.iterdir()} | {"work", "canary"}
        for index in range(first, stop):
            shutil.rmtree(root / "work", ignore_errors=True)
            (root / "work").mkdir()
            os.chdir(root / "work")
            outside.clear()
            code.clear()
            rng = random.Random(f"{seed} {door_name} {index}")
            attempt = partial(door.attempt, valid, root / "work", rng, root / "canary")
            found = _outcome(attempt)
            if outside or {path.name for path in root.iterdir()} - before:
                found["faults"]["outside"] = ", ".join(sorted(set(outside))) or str(
                    list(root.iterdir())
                )
            if code or (root / "canary").exists():
                found["faults"]["code"] = ", ".join(sorted(set(code))) or "the canary was touched"
                (root / "canary").unlink(missing_ok=True)
            report.write(json.dumps({"index": index, **found}) + "\n")
            report.flush()
        os.chdir("/")


def _outcome(attempt: Callable[[], None]) -> dict[str, Any]:
    from benchmarks.fuzz_files import WrongResultError
    from hear_core.errors import HearError

    faults: dict[str, str] = {}
    result = 0
    base = _reset_peak()
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)  # of the processor, which others may use too
    signal.alarm(10 * _SECONDS)
    try:
        attempt()
        result = 1
    except HearError as error:
        if not str(error).strip():
            faults["traceback"] = f"{type(error).__name__} without a message"
    except WrongResultError as error:
        faults["wrong"] = str(error)[:500]
    except _TooSlowError:
        faults["traceback"] = f"took more than {_SECONDS} s: {_place()}"
    except BaseException as error:
        faults["traceback"] = f"{type(error).__name__}: {str(error)[:300]} {_place()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    peak = max(0, _memory("VmHWM") - base) / 1000
    if peak > BUDGET_MB:
        faults["memory"] = f"{peak:.0f} MB"
    return {"result": result, "faults": faults, "peak_mb": peak}


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooSlowError


def _place() -> str:
    """Return the last lines of the project in the traceback of the current exception."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f for f in frames if "/hear_" in f.filename] or list(frames)
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(ours[-3:]))


def _reset_peak() -> int:
    """Let the peak of the memory begin at what is in use, and return that in kB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def _watched(root: Path) -> tuple[list[str], list[str]]:
    """Return lists that receive the paths outside a folder that are written, and programs run."""
    outside: list[str] = []
    code: list[str] = []

    def is_outside(path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed
        inside = absolute == str(root) or absolute.startswith(f"{root}/")
        return not inside and not absolute.startswith(("/dev/", "/proc/"))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and args[2] & _WRITING and is_outside(args[0]):
            outside.append(os.fsdecode(args[0]))
        elif event in _CHANGES:
            outside.extend(os.fsdecode(path) for path in args[:2] if is_outside(path))
        elif event in ("os.system", "os.exec", "os.posix_spawn") or (
            event == "subprocess.Popen" and Path(str(args[0])).name not in _HARMLESS
        ):
            code.append(f"{event} {args[0]}")

    sys.addaudithook(hook)
    return outside, code


def print_table(reports: Sequence[DoorReport]) -> None:
    """Print the figures as a table of Markdown, with a sum."""
    print(f"| entry point | inputs | results | {' | '.join(FAULTS)} | most MB |")
    print("|---|" + "---|" * (len(FAULTS) + 3))
    for report in reports:
        counts = " | ".join(str(report.faults[kind]) for kind in FAULTS)
        inputs = f"{report.inputs} | {report.results}"
        print(f"| {report.door} | {inputs} | {counts} | {report.peak_mb:.0f} |")
    sums = " | ".join(str(sum(report.faults[kind] for report in reports)) for kind in FAULTS)
    print(
        f"| **all** | {sum(report.inputs for report in reports)} | "
        f"{sum(report.results for report in reports)} | {sums} | "
        f"{max(report.peak_mb for report in reports):.0f} |"
    )


def main() -> None:
    """Fuzz all doors, print the figures and every fault, and exit with 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=INPUTS, help="number of inputs of all doors")
    parser.add_argument("--door", action="append", help="fuzz only this door; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--jobs", type=int, default=2, help="doors that run at the same time")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.worker, options.first, options.inputs, options.seed)
        return
    from benchmarks.fuzz_doors import DOORS

    doors = options.door or list(DOORS)
    total = sum(DOORS[name].weight for name in doors)
    with ThreadPoolExecutor(options.jobs) as pool:
        reports = list(
            pool.map(
                lambda name: fuzz_door(
                    name, round(options.inputs * DOORS[name].weight / total), options.seed
                ),
                doors,
            )
        )
    print_table(reports)
    sys.exit(1 if any(report.details for report in reports) else 0)


if __name__ == "__main__":
    main()
