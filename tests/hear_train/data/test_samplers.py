"""Samplers, and sources of batches."""

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_train.data.clips import Clip, Clips
from hear_train.data.datasets import DataConfig
from hear_train.data.samplers import SAMPLERS, WeightedSampler
from hear_train.data.sources import ClipDrawer, DrawnBatches, WaveformAugmentation

RATE, LENGTH = 100, 50


def ramps(count=6):
    """Return clips whose samples are numbers that are used nowhere else."""
    return Clips(
        [
            Clip(
                str(number),
                lambda rate, number=number: 1000.0 * number + np.arange(80, dtype=np.float32),
                np.packbits(np.arange(4) == number % 4),
            )
            for number in range(count)
        ],
        RATE,
    )


def test_drawing_with_replacement_repeats_clips():
    config = DataConfig(replacement=True, epoch_length=30)
    for name in ("uniform", "balanced"):
        sampler = SAMPLERS[name](ramps(), 4, 0, config)
        assert len(sampler) == 30
        drawn = [sampler[place] for place in range(60)]
        assert set(drawn) == set(range(6))
        assert drawn[:30] != drawn[30:]
        assert drawn == [SAMPLERS[name](ramps(), 4, 0, config)[place] for place in range(60)]


def test_without_replacement_an_epoch_is_as_long_as_there_are_clips():
    assert len(SAMPLERS["balanced"](ramps(), 4, 0, DataConfig(epoch_length=30))) == 6
    with pytest.raises(ConfigError, match="no clip has any: use sampler: uniform"):
        WeightedSampler(np.zeros(3), 0)


def test_rare_clips_are_drawn_more_often():
    weights = np.array([1.0, 3.0])
    sampler = WeightedSampler(weights, 0, 20000, replacement=True)
    share = np.mean([sampler[place] for place in range(20000)])
    assert share == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_strong_targets_are_cropped_shifted_and_mixed_with_the_sound(mix):
    """The targets of a frame are made of the samples of the clips in it."""
    clips = ramps()
    augmentation = WaveformAugmentation(roll=20, mix=mix)
    sampler = SAMPLERS["uniform"](clips, 4, 0, DataConfig())
    drawer = ClipDrawer(clips, sampler, LENGTH / RATE, augmentation, 0)

    def strong(clip, part):
        samples = clip.read(RATE)[part.start : part.start + LENGTH]
        return np.roll(samples, part.shift)[None]

    batch = DrawnBatches(drawer, 4, 4, strong=strong)[3]
    assert batch.targets.strong.shape == (4, 1, LENGTH)
    found = batch.targets.strong[:, 0]
    if mix:  # the mixing of the sounds also removes their means
        found = found - found.mean(1, keepdim=True)
    torch.testing.assert_close(found, batch.waveform, atol=2e-3, rtol=1e-5)
    assert len({float(row[0]) for row in batch.waveform}) == 4
    torch.testing.assert_close(batch.targets.weak.sum(1), torch.ones(4))
