"""Install the HEAR tools, unmodified, on a current Python: ``python -m hear_eval.install``.

``heareval`` and ``hearvalidator`` still do their work, but what they declare to need keeps pip
from installing them:

* heareval 2021.1.3 pins numpy 1.19.2 and numba 0.48, which exist for no current Python. It runs
  with today's numpy, pandas and scikit-learn, and uses no numba.
* ``pip install hearvalidator`` silently takes 2021.0.2, which refuses models at 32 kHz, because
  2021.0.6 is declared for Python below 3.9 only.
* heareval needs pytorch-lightning 1.8.6: 2.x has dropped hooks it calls, and with 1.9 its event
  tasks end in a KeyError. sed_eval needs pkg_resources, so setuptools below 81.

What they really need is the extra ``eval`` of this project. This module installs the two
themselves, without what they declare, into the Python that runs it. Set the environment variable
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` when running heareval's predictions: they read checkpoints
that they have just written as whole pickled objects.
"""

from __future__ import annotations

import subprocess
import sys

TOOLS = ("heareval==2021.1.3", "hearvalidator==2021.0.6")
_NEEDED = ("tensorflow", "pytorch_lightning", "sed_eval", "pkg_resources", "torchinfo", "slugify")


def main() -> None:
    """Install the tools and say what is still missing."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*pip, *TOOLS], check=True)
    look = (
        "import importlib.util as u, sys; sys.exit(' '.join(m for m in {} if not u.find_spec(m)))"
    )
    check = subprocess.run([sys.executable, "-c", look.format(_NEEDED)], stderr=subprocess.PIPE)
    if missing := check.stderr.decode().strip():
        sys.exit(f"also needed: {missing}; install this project with its extra 'eval'")


if __name__ == "__main__":
    main()
