"""Real weights and recordings, which the repository does not carry: the tests that need them.

They are looked for in the folder ``shared`` beside the checkout, or in that of HEAR_TEST_DATA.
A test marked ``needs_shared(path, ...)`` is skipped where a path does not exist.
"""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("HEAR_TEST_DATA", Path(__file__).parents[2] / "shared"))
MN04 = SHARED / "data" / "checkpoints" / "mn04_as_mAP_432.pt"
METRO = SHARED / "data" / "audio" / "metro_station-paris.wav"
ESC10 = SHARED / "data" / "esc10"
# Outputs of the original with these weights, and on this recording.
REAL_GOLDENS = SHARED / "parity" / "mn"

needs_mn04 = pytest.mark.needs_shared(MN04)
needs_metro = pytest.mark.needs_shared(METRO)
needs_esc10 = pytest.mark.needs_shared(ESC10)
needs_real_goldens = pytest.mark.needs_shared(REAL_GOLDENS)
