"""Lessons: mixing, masking, and a teacher that hears the same as its student."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hear_core.frontends.log_mel import LogMel
from hear_mn import ZOO
from hear_train.clips import Clips, find
from hear_train.lessons import Blur, Lesson, Lessons, Listening
from hear_train.mixing import Mixer, Mixing
from hear_train.teachers import Teacher
from tests.hear_train.conftest import RATE


def lesson(number=0, batch=6):
    generator = torch.Generator().manual_seed(1)
    heard = torch.rand(batch, RATE // 2, generator=generator) - 0.5
    soft, labels = torch.rand(2, batch, 527, generator=generator)
    return Lesson(number, heard, soft, labels, {}, {})


def test_plain_lessons_are_the_front_end_alone():
    heard = Listening(LogMel(), None, Blur(edges=False), 0)(lesson())
    torch.testing.assert_close(heard.heard, LogMel()(lesson().heard))
    assert torch.equal(heard.soft, lesson().soft)


def test_edges_of_the_bank_are_those_of_the_originals_and_do_not_stay():
    frontend = LogMel()
    listening = Listening(frontend, None, Blur(edges=True), 0)
    plain = frontend(lesson().heard)
    banks = [LogMel(fmin=low, fmax=high) for low in (0, 9) for high in (14001, 16000)]
    reach = torch.stack([bank(lesson().heard) for bank in banks])
    varied = torch.stack([listening(lesson(number)).heard for number in range(12)])
    assert len({float(each.sum()) for each in varied}) == 12
    top = varied[:, :, -20:].mean((1, 2, 3))
    assert top.min() >= reach[:, :, -20:].mean((1, 2, 3)).min() - 1e-3
    assert top.max() <= reach[:, :, -20:].mean((1, 2, 3)).max() + 1e-3
    torch.testing.assert_close(frontend(lesson().heard), plain, rtol=0, atol=0)


def test_mixup_gives_the_loss_of_both_partners():
    """The originals add the losses of both; for cross-entropy mixed targets are the same."""
    plain = Listening(LogMel(), None, Blur(edges=False), 0)(lesson())
    mixed = Listening(LogMel(), None, Blur(edges=False, mixup=0.3), 0)(lesson())
    logits = torch.randn(6, 527)
    for row in range(6):
        # Which pair and which share it was, is found from the log-mels.
        best = []
        for other in range(6):
            a, b = plain.heard[row].flatten(), plain.heard[other].flatten()
            d = a - b
            share = float((mixed.heard[row].flatten() - b) @ d / (d @ d)) if other != row else 1.0
            error = (share * a + (1 - share) * b - mixed.heard[row].flatten()).abs().max()
            best.append((float(error), other, share))
        error, other, share = min(best)
        assert error < 1e-4
        assert 0.5 <= share <= 1 + 1e-5
        each = [
            F.binary_cross_entropy_with_logits(logits[row], plain.soft[i]) for i in (row, other)
        ]
        found = F.binary_cross_entropy_with_logits(logits[row], mixed.soft[row])
        torch.testing.assert_close(found, share * each[0] + (1 - share) * each[1])


def test_masks_are_one_stretch_of_bands_and_one_of_frames():
    plain = Listening(LogMel(), None, Blur(edges=False), 0)(lesson()).heard
    blur = Blur(edges=False, mask_bands=30, mask_frames=20)
    masked = Listening(LogMel(), None, blur, 0)(lesson()).heard
    for before, after in zip(plain, masked, strict=True):
        changed = before != after
        bands, frames = changed.all(1), changed.all(0)
        assert (bands[:, None] | frames[None]).eq(changed).all()
        for stretch, most in ((bands, 30), (frames, 20)):
            assert stretch.sum() <= most
            assert stretch.float().diff().abs().sum() <= 2


@pytest.mark.parametrize("number", [0, 5])
def test_the_teacher_hears_the_mix_and_the_student_a_masked_one(number):
    teacher = Teacher(ZOO, "mn01_as", taps=("e1",), pretrained=False)
    blur = Blur(mixup=0.3)
    student_hears = Listening(LogMel(), teacher, blur, 0)(lesson(number))
    said = teacher(student_hears.heard)
    torch.testing.assert_close(student_hears.soft, said["logits"].sigmoid())
    torch.testing.assert_close(student_hears.taps["e1"], said["e1"])
    masked = Listening(LogMel(), teacher, Blur(mixup=0.3, mask_bands=60), 0)(lesson(number))
    torch.testing.assert_close(masked.soft, student_hears.soft)
    assert not torch.equal(masked.heard, student_hears.heard)


def test_a_teacher_of_another_rate_hears_the_same_sound():
    teacher = Teacher(ZOO, "mn01_as", pretrained=False)
    half = LogMel(sample_rate=RATE // 2, n_fft=512, window=400, hop=160)
    teacher.frontend = half
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 1000 * time)[None].repeat(2, 1)
    given = lesson()._replace(heard=tone)
    seen = []
    teacher.forward = lambda log_mel: seen.append(log_mel) or {"logits": torch.zeros(2, 527)}
    Listening(LogMel(), teacher, Blur(edges=False), 0)(given)
    expected = half(torch.sin(2 * torch.pi * 1000 * time[::1].view(-1, 2)[:, 0])[None])
    assert seen[0].shape[-1] == expected.shape[-1]
    assert seen[0][0].mean(1).argmax() == expected[0].mean(1).argmax()


def test_shuffled_lessons_say_what_belongs_to_another_sound():
    teacher = Teacher(ZOO, "mn01_as", pretrained=False)
    right = Listening(LogMel(), teacher, Blur(), 0)(lesson())
    wrong = Listening(LogMel(), teacher, Blur(), 0, shuffled=True)(lesson())
    assert torch.equal(wrong.heard, right.heard)
    assert torch.equal(wrong.soft, right.soft[[5, 0, 1, 2, 3, 4]])


def test_two_processes_share_what_one_would_have(packed):
    clips = Clips(find([packed[0]], ["*3.mp3"], ZOO["mn01_as"].labels), RATE)
    mixer = Mixer(clips, Mixing(seconds=0.2, synthetic=0, strength=0), 0)
    whole = Lessons(mixer, 8, 527)
    parts = [Lessons(mixer, 4, 527, rank=rank, processes=2) for rank in (0, 1)]
    for step in range(3):
        expected, found = whole[step], [part[step] for part in parts]
        assert torch.equal(torch.cat([part.heard for part in found]), expected.heard)
        assert torch.equal(torch.cat([part.labels for part in found]), expected.labels)


def test_labels_of_a_mix_are_those_of_its_clips_by_their_shares(packed):
    path, targets = packed
    clips = Clips(find([path], ["*3.mp3"], ZOO["mn01_as"].labels), RATE)
    rows = np.delete(targets, 3, 0)
    mixer = Mixer(clips, Mixing(seconds=0.2, sounds=(0, 1), synthetic=0, strength=0), 0)
    found = Lessons(mixer, 8, 527)[2].labels.numpy()
    for row, number in zip(found, range(16, 24), strict=True):
        expected = sum(share * rows[index] for index, share in mixer.draw(number).clips)
        np.testing.assert_allclose(row, expected, rtol=1e-5)
