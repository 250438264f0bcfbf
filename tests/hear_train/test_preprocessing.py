"""Preprocessing: augmentation, and a teacher that gets the same sound as its student."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hear_core.frontends.log_mel import LogMel
from hear_mn import ZOO
from hear_sed.backbones.registry import BACKBONES
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.batch import Batch, Targets
from hear_train.data.clips import Clip, Clips, find_clips
from hear_train.data.mixtures import MixtureConfig, MixtureDrawer
from hear_train.data.samplers import UniformSampler
from hear_train.data.sources import ClipDrawer, DrawnBatches, WaveformAugmentation
from hear_train.objectives.supervised import Supervised
from hear_train.objectives.teachers import NetworkTeacher
from hear_train.preprocessing import Preprocessing
from tests.hear_train.conftest import RATE

PLAIN = SpectrogramAugmentation(mel_edges=False)


def prepare(augmentation, teacher=None, *, frontend=None, **options):
    return Preprocessing(frontend or LogMel(), augmentation, 0, teacher, **options)


def batch(step=0, size=6):
    generator = torch.Generator().manual_seed(1)
    waveform = torch.rand(size, RATE // 2, generator=generator) - 0.5
    soft, labels = torch.rand(2, size, 527, generator=generator)
    return Batch(step, waveform, Targets(labels), teacher=Targets(soft))


def test_without_augmentation_it_is_the_front_end():
    processed = prepare(PLAIN)(batch())
    torch.testing.assert_close(processed.log_mel, LogMel()(batch().waveform))
    assert torch.equal(processed.teacher.weak, batch().teacher.weak)


def test_edges_of_the_bank_are_those_of_the_originals_and_do_not_stay():
    frontend = LogMel()
    preprocess = prepare(SpectrogramAugmentation(mel_edges=True), frontend=frontend)
    plain = frontend(batch().waveform)
    banks = [LogMel(fmin=low, fmax=high) for low in (0, 9) for high in (14001, 16000)]
    reach = torch.stack([bank(batch().waveform) for bank in banks])
    varied = torch.stack([preprocess(batch(number)).log_mel for number in range(12)])
    assert len({float(each.sum()) for each in varied}) == 12
    top = varied[:, :, -20:].mean((1, 2, 3))
    assert top.min() >= reach[:, :, -20:].mean((1, 2, 3)).min() - 1e-3
    assert top.max() <= reach[:, :, -20:].mean((1, 2, 3)).max() + 1e-3
    torch.testing.assert_close(frontend(batch().waveform), plain, rtol=0, atol=0)


def test_mixup_gives_the_loss_of_both_partners():
    """The originals add the losses of both; for cross-entropy mixed targets are the same."""
    plain = prepare(PLAIN)(batch())
    mixed = prepare(SpectrogramAugmentation(mel_edges=False, mixup=0.3))(batch())
    logits = torch.randn(6, 527)
    for row in range(6):
        # Which pair and which share it was, is found from the log-mels.
        best = []
        for other in range(6):
            a, b = plain.log_mel[row].flatten(), plain.log_mel[other].flatten()
            d = a - b
            share = float((mixed.log_mel[row].flatten() - b) @ d / (d @ d)) if other != row else 1.0
            error = (share * a + (1 - share) * b - mixed.log_mel[row].flatten()).abs().max()
            best.append((float(error), other, share))
        error, other, share = min(best)
        assert error < 1e-4
        assert 0.5 <= share <= 1 + 1e-5
        each = [
            F.binary_cross_entropy_with_logits(logits[row], plain.teacher.weak[i])
            for i in (row, other)
        ]
        found = F.binary_cross_entropy_with_logits(logits[row], mixed.teacher.weak[row])
        torch.testing.assert_close(found, share * each[0] + (1 - share) * each[1])


def test_masks_are_one_stretch_of_bands_and_one_of_frames():
    plain = prepare(PLAIN)(batch()).log_mel
    blur = SpectrogramAugmentation(mel_edges=False, freq_mask=30, time_mask=20)
    masked = prepare(blur)(batch()).log_mel
    for before, after in zip(plain, masked, strict=True):
        changed = before != after
        bands, frames = changed.all(1), changed.all(0)
        assert (bands[:, None] | frames[None]).eq(changed).all()
        for stretch, most in ((bands, 30), (frames, 20)):
            assert stretch.sum() <= most
            assert stretch.float().diff().abs().sum() <= 2


@pytest.mark.parametrize("number", [0, 5])
def test_the_teacher_gets_the_mix_and_the_student_a_masked_one(number):
    teacher = NetworkTeacher(ZOO, ("mn01_as",), taps=("e1",), pretrained=False)
    blur = SpectrogramAugmentation(mixup=0.3)
    augmented = prepare(blur, teacher)(batch(number))
    targets, taps = teacher(lambda frontend: augmented.log_mel)
    torch.testing.assert_close(augmented.teacher.weak, targets.weak)
    torch.testing.assert_close(augmented.taps["e1"], taps["e1"])
    masked = prepare(SpectrogramAugmentation(mixup=0.3, freq_mask=60), teacher)(batch(number))
    torch.testing.assert_close(masked.teacher.weak, augmented.teacher.weak)
    assert not torch.equal(masked.log_mel, augmented.log_mel)


def test_a_teacher_of_another_sample_rate_gets_the_same_sound():
    teacher = NetworkTeacher(ZOO, ("mn01_as",), pretrained=False)
    half = LogMel(sample_rate=RATE // 2, n_fft=512, window=400, hop=160)
    teacher.frontends[0] = half
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 1000 * time)[None].repeat(2, 1)
    given = batch()._replace(waveform=tone)
    seen = []
    teacher.networks[0].forward = lambda log_mel, taps: (
        seen.append(log_mel) or {"logits": torch.zeros(2, 527)}
    )
    prepare(PLAIN, teacher)(given)
    expected = half(torch.sin(2 * torch.pi * 1000 * time[::1].view(-1, 2)[:, 0])[None])
    assert seen[0].shape[-1] == expected.shape[-1]
    assert seen[0][0].mean(1).argmax() == expected[0].mean(1).argmax()


def test_shuffled_predictions_belong_to_another_clip():
    teacher = NetworkTeacher(ZOO, ("mn01_as",), pretrained=False)
    right = prepare(SpectrogramAugmentation(), teacher)(batch())
    wrong = prepare(SpectrogramAugmentation(), teacher, shuffle_teacher=True)(batch())
    assert torch.equal(wrong.log_mel, right.log_mel)
    assert torch.equal(wrong.teacher.weak, right.teacher.weak[[5, 0, 1, 2, 3, 4]])


def test_two_processes_share_what_one_would_have(packed):
    clips = Clips(find_clips([packed[0]], ["*3.mp3"], ZOO["mn01_as"].labels), RATE)
    drawer = MixtureDrawer(clips, MixtureConfig(seconds=0.2, synthetic=0, strength=0), 0)
    whole = DrawnBatches(drawer, 8, 527)
    parts = [DrawnBatches(drawer, 4, 527, rank=rank, processes=2) for rank in (0, 1)]
    for step in range(3):
        expected, found = whole[step], [part[step] for part in parts]
        assert torch.equal(torch.cat([part.waveform for part in found]), expected.waveform)
        assert torch.equal(torch.cat([part.targets.weak for part in found]), expected.targets.weak)


def test_labels_of_a_mix_are_those_of_its_clips_by_their_shares(packed):
    path, targets = packed
    clips = Clips(find_clips([path], ["*3.mp3"], ZOO["mn01_as"].labels), RATE)
    rows = np.delete(targets, 3, 0)
    drawer = MixtureDrawer(
        clips, MixtureConfig(seconds=0.2, sounds=(0, 1), synthetic=0, strength=0), 0
    )
    found = DrawnBatches(drawer, 8, 527)[2].targets.weak.numpy()
    for row, number in zip(found, range(16, 24), strict=True):
        expected = sum(part.share * rows[part.clip] for part in drawer.draw(number).clips)
        np.testing.assert_allclose(row, expected, rtol=1e-5)


@pytest.mark.parametrize(("student", "teacher"), [("fmn10", "fpasst"), ("BEATs", "ASIT")])
def test_a_teacher_gets_the_log_mel_of_its_own_front_end(student, teacher):
    """The front-ends differ in a window, and in constants, but not in their sizes."""
    own, other = (BACKBONES[name].frontend() for name in (student, teacher))
    given = {}

    def look(log_mel_of):
        given.update(own=log_mel_of(own), other=log_mel_of(other))
        return Targets(), {}

    sounds = batch()._replace(waveform=torch.rand(2, 8000) - 0.5, targets=Targets(), teacher=None)
    processed = prepare(PLAIN, look, frontend=own)(sounds)
    assert torch.equal(given["own"], processed.log_mel)
    assert torch.equal(given["other"], other(sounds.waveform))
    assert not torch.allclose(given["other"], given["own"], atol=0.01)


LENGTHS = (RATE, RATE // 3, RATE // 2 + 7)


def clips_of_several_lengths(mix=0.0, shortest=1000):
    """Return a source whose batches have the three clips, of at most a second."""
    clips = Clips(
        [
            Clip(
                str(length),
                lambda rate, length=length: np.sin(np.arange(length) / 9).astype(np.float32),
                np.packbits([True]),
            )
            for length in (*LENGTHS[1:], 2 * RATE)
        ],
        RATE,
    )
    drawer = ClipDrawer(
        clips, UniformSampler(3, 0), 1.0, WaveformAugmentation(mix=mix), 0, shortest=shortest
    )
    return DrawnBatches(drawer, 3, 1)


def test_a_batch_is_padded_to_its_longest_clip():
    batch = clips_of_several_lengths()[0]
    assert sorted(batch.lengths.tolist()) == sorted(LENGTHS)
    assert batch.waveform.shape == (3, RATE)
    for samples, length in zip(batch.waveform, batch.lengths.tolist(), strict=True):
        assert samples[length - 1] != 0
        assert not samples[length:].any()
    mixed = clips_of_several_lengths(mix=1.0)[0]
    assert all(length in LENGTHS for length in mixed.lengths.tolist())
    assert clips_of_several_lengths(shortest=2 * RATE)[0].lengths is None  # all alike


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_padding_does_not_count_in_the_average_of_a_network(mixup):
    """The head gets the mean over the frames of each clip, and of its partner if it is mixed."""
    network = ZOO.random_init("mn01_as").eval()
    given = clips_of_several_lengths()[0]
    settings = SpectrogramAugmentation(mel_edges=False, mixup=mixup)
    batch = prepare(settings)(given)
    frames = [1 + (length - 1) // 320 for length in given.lengths.tolist()]
    found = batch.frames.tolist()
    assert all(own >= alone for own, alone in zip(found, frames, strict=True))
    assert (found == frames) is (mixup == 0)
    with torch.no_grad():
        logits = Supervised(network).outputs(batch)["logits"]
        last = network(batch.log_mel, ("b16",))["b16"]
        for row, count in enumerate(found):
            own = int(np.ceil(count * last.shape[-1] / batch.log_mel.shape[-1]))
            expected = network.classifier(last[row : row + 1, :, :, :own])["logits"][0]
            torch.testing.assert_close(logits[row], expected)
    assert not network.classifier._forward_pre_hooks
