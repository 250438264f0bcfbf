"""The schedule against that of EfficientAT, from its constants, epoch by epoch."""

import math

import pytest

from hear_core.errors import ConfigError
from hear_train.loop.schedules import Schedule


def original(epoch, warm_up, down_start, down_length, last):
    """As in the original: a rise times a fall, each with a constant of its own before and after."""
    rise = 1.0
    if epoch < warm_up:
        phase = 1.0 - max(0.5, min(warm_up, epoch)) / warm_up
        rise = math.exp(-5.0 * phase * phase)
    if epoch <= down_start:
        fall = 1.0
    elif epoch - down_start < down_length:
        fall = last + (1.0 - last) * (down_length - (epoch - down_start)) / down_length
    else:
        fall = last
    return rise * fall


@pytest.mark.parametrize("numbers", [(8, 80, 95, 0.01), (10, 10, 65, 0.01), (2, 20, 40, 0.1)])
def test_every_epoch(numbers):
    schedule = Schedule(*numbers)
    for epoch in range(220):
        assert schedule.factor(epoch) == pytest.approx(original(epoch, *numbers), rel=1e-12)


def test_known_points():
    schedule = Schedule()
    assert schedule.factor(0) == pytest.approx(math.exp(-5 * (1 - 0.5 / 8) ** 2))
    found = [schedule.factor(epoch) for epoch in (8, 80, 175, 500)]
    assert found == pytest.approx([1, 1, 0.01, 0.01])


def test_without_a_ramp_it_falls_at_once():
    schedule = Schedule(0, 3, 0, 0.5)
    assert [schedule.factor(epoch) for epoch in (0, 2, 3)] == [1, 1, 0.5]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="epochs of 0 or more"):
        Schedule(warm_up=-1)
