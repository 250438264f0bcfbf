"""The entry point of the ``hear`` command, which imports PyTorch only once it is needed."""

from __future__ import annotations

import sys
from importlib import metadata


def main() -> None:
    """Run the command; Ctrl-C ends it quietly, with exit code 130, even during its imports."""
    try:
        if sys.argv[1:] == ["--version"] and (version := _installed_version()):
            sys.stdout.write(f"hear {version}\n")
            return
        # Here, since these imports take seconds, and a module cannot catch Ctrl-C in its own.
        from hear_cli.app import run_app
    except KeyboardInterrupt:
        sys.exit(130)
    run_app()


def _installed_version() -> str | None:
    try:
        return metadata.version("efficient-hear")
    except metadata.PackageNotFoundError:  # the sources are on the path, but not installed
        return None
