"""Installation of heareval and hearvalidator, unmodified: ``python -m hear_eval.install``.

Both work on a current Python, but pip cannot install them because of the dependencies that they
declare:

* heareval 2021.1.3 pins numpy 1.19.2 and numba 0.48, which do not exist for any current Python. It
  runs with today's numpy, pandas and scikit-learn, and does not use numba.
* ``pip install hearvalidator`` silently installs 2021.0.2, which refuses models at 32 kHz, because
  2021.0.6 is declared for Python below 3.9 only.
* heareval needs pytorch-lightning 1.8.6: 2.x has removed hooks that it calls, and with 1.9 event
  tasks end in a KeyError. sed_eval needs pkg_resources, so setuptools below 81.

Their true dependencies are the extra ``eval`` of this project. This module installs the two without
dependencies into the Python that runs it. heareval's predictions read checkpoints that they have
just written as pickles, so set ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` to run them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

TOOLS = ("heareval==2021.1.3", "hearvalidator==2021.0.6")
_NEEDED = ("tensorflow", "pytorch_lightning", "sed_eval", "pkg_resources", "torchinfo", "slugify")


def main(arguments: Sequence[str] | None = None) -> None:
    """Install the tools, and report dependencies that are missing.

    Args:
        arguments: Command line; by default that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m hear_eval.install",
        description=f"Install {' and '.join(TOOLS)} without their dependencies, which are the "
        "extra 'eval' of efficient-hear.",
    )
    parser.parse_args(arguments)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--ignore-requires-python"]
    if code := subprocess.run([*pip, *TOOLS], check=False).returncode:
        sys.exit(f"pip could not install {' and '.join(TOOLS)} (exit code {code})")
    find = (
        "import importlib.util as u, sys; sys.exit(' '.join(m for m in {} if not u.find_spec(m)))"
    )
    check = subprocess.run([sys.executable, "-c", find.format(_NEEDED)], stderr=subprocess.PIPE)
    if missing := check.stderr.decode().strip():
        sys.exit(f"{missing} must be installed too: install efficient-hear with its extra 'eval'")


if __name__ == "__main__":
    main()
