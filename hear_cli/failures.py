"""Error reporting: what the command prints and returns when something fails."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import typer

from hear_core.errors import HearError

EXTRAS = {
    "accelerate": "train",
    "h5py": "train",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "pyarrow": "parquet",
    "ray": "ray",
    "tensorboard": "train",
}
"""Optional packages, and the extra of this distribution that installs each."""

INTERRUPTED = 128 + 2  # as shells report SIGINT
_SHOWN = 10  # clips that were skipped


@dataclass
class Failures:
    """Turns exceptions into messages.

    Args:
        debug: Print the traceback before the message.
    """

    debug: bool = False

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """End the process with a message and an exit code if the block raises.

        An error that a user can mend has exit code 1. After Ctrl-C the code is 130. A pipe that
        its reader has closed, as by ``head``, ends the command without a message.
        """
        _write_any_name()
        try:
            try:
                yield
            finally:
                sys.stdout.flush()  # here, where a failure can still be reported
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            sys.exit(1)
        except Exception as error:  # the last resort: no user should have to read a traceback
            if self.debug:
                traceback.print_exc()
            _discard_stdout()
            sys.exit(f"hear: {describe_failure(error)}")


def describe_failure(error: Exception) -> str:
    """Return what an exception means to a user, as a sentence."""
    match error:
        case HearError():
            return str(error)
        case ModuleNotFoundError(name=str(name)) if extra := EXTRAS.get(name.partition(".")[0]):
            return (
                f"the Python package {name.partition('.')[0]!r} is missing; "
                f"install it with: pip install 'efficient-hear[{extra}]'"
            )
        case MemoryError():
            return "out of memory; close other programs, or give the command less at a time"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return (
                f"{_place(error)}the disk is full; results that were complete are kept. "
                "Free some space and run the command again"
            )
        case OSError(strerror=str(reason)):
            return f"{_place(error)}{reason}"
        case _:
            text = " ".join(str(error).split())
            return (
                f"unexpected {type(error).__name__}: {text}\n"
                "This is a fault of efficient-hear. Please report it with what "
                "'hear --debug COMMAND ...' prints."
            )


def report_skipped(skipped: Mapping[str, str]) -> None:
    """Print the first clips that were skipped on standard error, each with the reason.

    Args:
        skipped: Reasons by name of the clip.
    """
    for name, reason in list(skipped.items())[:_SHOWN]:
        typer.echo(f"hear: {name} was skipped: {reason}", err=True)


def _place(error: OSError) -> str:
    return f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""


def _write_any_name() -> None:
    """Let names that the encoding of the output lacks be written with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Let the interpreter not fail again, when it exits, on output that cannot be written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
