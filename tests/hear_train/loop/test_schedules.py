"""Schedules: EfficientAT's from its constants epoch by epoch, EfficientSED's from its numbers."""

import math

import pytest

from hear_core.errors import ConfigError
from hear_train.loop.schedules import Schedule
from tests.goldens.arrays import arrays


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
    with pytest.raises(ConfigError, match="lengths of 0 or more"):
        Schedule(warm_up=-1)


@pytest.mark.parametrize(
    ("name", "golden", "last"), [("cosine", "cos", 0), ("linear", "linear", 2e-7)]
)
def test_schedules_by_step_are_those_of_efficientsed(name, golden, last):
    expected = arrays("train/efficientsed_losses")
    schedule = Schedule(name=name, warm_up_steps=10, last=last)
    found = [schedule.factor(step, 20, 2) for step in range(41)]
    assert found == pytest.approx(expected[f"{golden}_small"].tolist(), rel=1e-9, abs=1e-12)


def test_the_cosine_schedule_of_a_whole_run():
    """The warm-up of EfficientSED takes 20000 steps, whatever its option says."""
    expected = arrays("train/efficientsed_losses")
    schedule = Schedule(name="cosine", warm_up_steps=20000, last=0)
    found = [schedule.factor(int(step), 391, 120) for step in expected["cos_steps"]]
    assert found == pytest.approx(expected["cos_factor"].tolist(), rel=1e-6, abs=1e-9)


def test_a_constant_and_an_unknown_schedule():
    assert [Schedule(name="constant").factor(step, 5, 9) for step in (0, 44)] == [1, 1]
    with pytest.raises(ConfigError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        Schedule(name="cosin")
