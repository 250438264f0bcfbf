"""Random mixtures of clips and synthetic sounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_core.errors import AudioError, ConfigError
from hear_train.augment import synthesis, waveforms
from hear_train.data.clips import Clip, Clips
from hear_train.data.mixtures import PER_CLIP, PER_MIXTURE, MixtureConfig, MixtureDrawer

RATE = 8000
VARIATIONS = {step.vary.__name__: step.vary for step in PER_CLIP + PER_MIXTURE}


def clips(count=5, corrupt=()):
    def read(number):
        if number in corrupt:
            raise AudioError(f"{number} is corrupt")
        return np.sin(np.arange(3000 + 2000 * number) * 0.1 * (1 + number)).astype(np.float32)

    return Clips([Clip(str(i), lambda _, i=i: read(i)) for i in range(count)], RATE)


@settings(max_examples=20)
@given(st.permutations(range(12)))
def test_a_sound_depends_on_seed_and_number_alone(order):
    reference = [
        MixtureDrawer(clips(), MixtureConfig(seconds=0.5), 3).draw(number).samples
        for number in range(12)
    ]
    drawer = MixtureDrawer(clips(), MixtureConfig(seconds=0.5), 3)
    for number in order:
        np.testing.assert_array_equal(drawer.draw(number).samples, reference[number])
    other = MixtureDrawer(clips(), MixtureConfig(seconds=0.5), 4).draw(0).samples
    assert not np.array_equal(other, reference[0])


def test_every_clip_has_its_turn_in_every_round():
    drawer = MixtureDrawer(clips(), MixtureConfig(seconds=0.1, sounds=(1,), synthetic=0), 0)
    rounds = [[drawer.draw(5 * r + i).clips[0][0] for i in range(5)] for r in range(6)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


@pytest.mark.parametrize("number", range(30))
def test_length_level_and_shares(number):
    config = MixtureConfig(seconds=0.5, levels=(-30, -20))
    sound = MixtureDrawer(clips(), config, 0).draw(number)
    assert sound.samples.shape == (4000,)
    assert sound.samples.dtype == np.float32
    effective = np.sqrt(np.square(sound.samples).mean())
    assert -36 <= 20 * np.log10(effective) <= -19.9  # clipping takes something off
    if sound.clips:
        assert sum(part.share for part in sound.clips) == pytest.approx(1)


def test_without_strength_a_clip_is_cut_shifted_and_levelled_only():
    config = MixtureConfig(seconds=0.25, sounds=(1,), synthetic=0, strength=0, levels=(-20, -20))
    drawer = MixtureDrawer(clips(), config, 0)
    for number in range(10):
        sound = drawer.draw(number)
        (part,) = sound.clips
        original = drawer.clips.read(part.clip)
        assert part.share == 1
        spectra = [np.abs(np.fft.rfft(x, 4 * RATE)) for x in (sound.samples, original)]
        peaks = [spectrum.argmax() for spectrum in spectra]
        assert abs(peaks[0] - peaks[1]) <= 60


@pytest.mark.parametrize(
    "wrong",
    [{"sounds": (0, 0, 0)}, {"kinds": (-1, 1, 1)}, {"synthetic": 1.5}, {"seconds": 0}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=f"cannot be drawn with {next(iter(wrong))}"):
        MixtureConfig(**wrong)


def test_corrupt_clips_are_skipped_and_named():
    drawer = MixtureDrawer(clips(corrupt=(1, 3)), MixtureConfig(seconds=0.1, synthetic=0), 0)
    sounds = [drawer.draw(number) for number in range(20)]
    assert {part.clip for sound in sounds for part in sound.clips} == {0, 2, 4}
    skipped = {name: why for sound in sounds for name, why in sound.skipped.items()}
    assert skipped == {"1": "1 is corrupt", "3": "3 is corrupt"}
    with pytest.raises(ConfigError, match="clips in a row cannot be read"):
        MixtureDrawer(clips(2, corrupt=(0, 1)), MixtureConfig(seconds=0.1, synthetic=0), 0).draw(0)


@pytest.mark.parametrize("name", VARIATIONS)
@given(length=st.integers(2, 5000), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_variations_take_any_length(name, length, seed):
    samples = np.random.default_rng(7).standard_normal(length).astype(np.float32)
    before = samples.copy()
    varied = VARIATIONS[name](samples, np.random.default_rng(seed), RATE)
    assert np.isfinite(varied).all()
    assert varied.dtype == np.float32
    assert (len(varied) == length) == (name != "change_speed") or length < 4
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("kind", synthesis.KINDS)
@given(length=st.integers(400, 9000), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_synthetic_sounds(kind, length, seed):
    samples = kind(np.random.default_rng(seed), length, RATE)
    assert samples.shape == (length,)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert samples.std() > 0
    again = kind(np.random.default_rng(seed), length, RATE)
    np.testing.assert_array_equal(samples, again)


def test_playing_lower_and_higher_moves_the_pitch():
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE).astype(np.float32)
    for seed in range(8):
        varied = waveforms.change_speed(tone, np.random.default_rng(seed), RATE)
        factor = len(tone) / len(varied)
        peak = np.abs(np.fft.rfft(varied)).argmax() * RATE / len(varied)
        assert 0.5 <= factor <= 2
        assert peak == pytest.approx(500 * factor, rel=0.02)


def test_levels():
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = waveforms.level(samples, -20)
    assert np.sqrt(np.square(found).mean()) == pytest.approx(0.1, rel=1e-4)
    assert not waveforms.level(np.zeros(9, np.float32), -20).any()
