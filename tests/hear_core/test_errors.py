import math
from fractions import Fraction

import numpy as np
import pytest

from hear_core.errors import ConfigError, require_number


@pytest.mark.parametrize("value", [0.5, 1, 60, 60.0, np.float32(2), np.int64(3), Fraction(3, 2)])
def test_numbers_in_range_pass(value):
    require_number("hop", value, 0.5, 60)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -1, 0, 1e12, 10**400, True, "1", None, [1], 1j]
)
def test_other_values_are_refused_with_the_range(value):
    with pytest.raises(ConfigError, match=r"^hop must be a number from 0.5 to 60 seconds, not "):
        require_number("hop", value, 0.5, 60, unit="seconds")


def test_whole_numbers():
    require_number("count", 3.0, 1, 10, integer=True)
    with pytest.raises(ConfigError, match=r"count must be a whole number from 1 to 10, not 2.5"):
        require_number("count", 2.5, 1, 10, integer=True)
