from __future__ import annotations

import io
import stat
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hear_core.audio import decoding
from hear_core.audio.reading import (
    as_waveform,
    audio_suffixes,
    read_audio,
    read_blocks,
    read_if_short,
)
from hear_core.errors import AudioError

RATE = 32000


def tone(seconds, rate, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(
        "float32"
    )


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        (".wav", {"subtype": "PCM_16"}, 1e-4),
        (".wav", {"subtype": "FLOAT"}, 1e-7),
        (".flac", {}, 1e-4),
        (".aiff", {}, 1e-4),
        (".ogg", {}, 0.05),
        (".mp3", {}, 0.05),
    ],
)
def test_formats(tmp_path, suffix, options, tolerance):
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(1.0, 32000), 32000, **options)
    waveform = read_audio(path, 32000)
    assert waveform.dtype == torch.float32
    assert waveform.shape == (32000,)
    np.testing.assert_allclose(waveform[1000:-1000], tone(1.0, 32000)[1000:-1000], atol=tolerance)


def test_channels_are_averaged(tmp_path):
    left, right = tone(0.1, 16000), tone(0.1, 16000, 1000.0)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(
        read_audio(tmp_path / "stereo.wav", 16000), (left + right) / 2, atol=1e-6
    )


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_rate_is_changed(tmp_path, rate):
    soundfile.write(tmp_path / "tone.wav", tone(2.0, rate), rate, subtype="FLOAT")
    waveform = read_audio(tmp_path / "tone.wav", 32000)
    assert waveform.shape == (64000,)
    np.testing.assert_allclose(waveform[2000:-2000], tone(2.0, 32000)[2000:-2000], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.wav", b"this is no audio at all", "cannot be read as audio"),
        ("empty.wav", b"", "cannot be read as audio"),
    ],
)
def test_no_audio(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name} {message}"):
        read_audio(tmp_path / name, 32000)


def test_no_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0, "float32"), 32000)
    with pytest.raises(AudioError, match=r"none.wav has no samples"):
        read_audio(tmp_path / "none.wav", 32000)


def test_no_file(tmp_path):
    with pytest.raises(AudioError, match=r"gone.wav does not exist"):
        read_audio(tmp_path / "gone.wav", 32000)


def test_usual_suffixes_are_known():
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"} <= audio_suffixes()
    assert not {".raw", ".txt", ""} & audio_suffixes()


def noise(seconds, rate=RATE, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((round(seconds * rate), channels))).astype("float32")


def encoded(samples, suffix, rate=RATE, **options):
    """Return the bytes of an audio file."""
    file = io.BytesIO()
    form = {"ogg": "OGG", "mp3": "MP3", "flac": "FLAC", "wav": "WAV"}[suffix]
    # In parts: libsndfile overruns its stack when it writes much Vorbis at once.
    with soundfile.SoundFile(
        file, "w", rate, np.atleast_2d(samples.T).shape[0], format=form, **options
    ) as writer:
        for start in range(0, len(samples), 4096):
            writer.write(samples[start : start + 4096])
    return file.getvalue()


def written(path, *contents):
    path.write_bytes(b"".join(contents))
    return path


def plain(path, rate=RATE):
    """Read a file in one piece by its library."""
    samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if own == rate else soxr.resample(mono, own, rate, quality="HQ")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [32000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_good_files_give_what_the_libraries_give(tmp_path, suffix, rate, channels):
    path = written(tmp_path / "a", encoded(noise(5, rate, channels), suffix, rate))
    np.testing.assert_array_equal(read_audio(path, RATE, strict=True), plain(path))


@pytest.mark.parametrize("size", [1, 999, 1 << 16, 1 << 20])
def test_blocks_are_the_waveform(tmp_path, size):
    seconds = 0.05 if size == 1 else 4
    path = written(tmp_path / "a", encoded(noise(seconds, 44100, 2), "wav", 44100))
    blocks = list(read_blocks(path, RATE, size))
    assert {len(block) for block in blocks[:-1]} <= {size}
    assert 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path, RATE))


def test_blocks_of_a_long_file_take_little_memory(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48000, 2) as file:
        for seed in range(60):
            file.write(noise(5, 48000, 2, seed))
    tracemalloc.start()
    samples = sum(map(len, read_blocks(tmp_path / "a.wav", RATE)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 300 * RATE
    assert peak < 8e6  # of 115 MB as float32


# --- what headers promise -------------------------------------------------------------------------


def without_xing(mp3):
    """Return MP3 data without its first frame, which holds a Xing header and no audio."""
    assert b"Xing" in mp3[:64]
    return mp3[mp3.index(mp3[:2], 4) :]


@pytest.mark.parametrize(("rate", "channels"), [(32000, 1), (44100, 2), (22050, 1), (11025, 2)])
def test_a_vbr_mp3_without_a_length_is_read_to_its_end(tmp_path, rate, channels):
    # Silence first, so that an estimate from the first frames is far off.
    sound = np.concatenate([np.zeros((6 * rate, channels), "float32"), noise(4, rate, channels)])
    data = encoded(sound, "mp3", rate, bitrate_mode="VARIABLE", compression_level=0.5)
    path = written(tmp_path / "a.mp3", without_xing(data))
    found = read_audio(path, rate, strict=True).numpy()
    assert 10 * rate <= len(found) <= 10 * rate + 4 * 1152
    whole = read_audio(written(tmp_path / "b.mp3", data), rate).numpy()
    delay = len(found) - len(whole)  # of the encoder, which only the Xing header tells
    best = min(
        np.abs(found[shift : shift + len(whole)] - whole[: len(found) - shift]).max()
        for shift in range(delay + 1)
        if shift + len(whole) <= len(found)
    )
    assert best < 1e-4


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "wav"])
def test_streams_one_after_the_other_are_all_read(tmp_path, suffix):
    one, two = encoded(noise(1), suffix), encoded(noise(2, 44100, 2, seed=1), suffix, 44100)
    paths = [written(tmp_path / name, data) for name, data in (("1", one), ("2", two))]
    wanted = np.concatenate([plain(path) for path in paths])
    found = read_audio(written(tmp_path / "both", one, two), RATE, strict=True)
    np.testing.assert_array_equal(found, wanted)


def test_tags_between_and_after_the_frames_of_an_mp3_do_not_matter(tmp_path):
    data = encoded(noise(1), "mp3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + b"\xff" * 256
    after = b"TAG" + b"\xff" * 125
    wanted = plain(written(tmp_path / "plain.mp3", data))
    tagged = written(tmp_path / "tagged.mp3", tag, data, after, tag, data)
    found = read_audio(tagged, RATE, strict=True).numpy()
    np.testing.assert_array_equal(found, np.concatenate([wanted, wanted]))


def xing(mp3, frames):
    place = (mp3.index(b"Xing") if b"Xing" in mp3[:64] else mp3.index(b"Info")) + 8
    return mp3[:place] + struct.pack(">I", frames) + mp3[place + 4 :]


@pytest.mark.parametrize("frames", [1, 20, 2**31])
def test_a_damaged_length_of_an_mp3_is_reported(tmp_path, caplog, frames):
    data = encoded(noise(2), "mp3", bitrate_mode="VARIABLE")
    wanted = plain(written(tmp_path / "good.mp3", data))
    path = written(tmp_path / "bad.mp3", xing(data, frames))
    found = read_audio(path, RATE).numpy()
    assert len(wanted) <= len(found) <= len(wanted) + 2 * 1152
    np.testing.assert_allclose(found[: len(wanted)], wanted, atol=1e-5)
    assert "bad.mp3 " in caplog.text
    with pytest.raises(AudioError, match=r"bad\.mp3 (promises|is truncated)"):
        read_audio(path, RATE, strict=True)


def with_total(flac, samples):
    total = int.from_bytes(flac[21:26], "big") >> 36 << 36 | samples
    return flac[:21] + total.to_bytes(5, "big") + flac[26:]


@pytest.mark.parametrize("samples", [0, 1, 5000, 2**36 - 1])
def test_a_wrong_length_of_a_flac_file_does_not_matter(tmp_path, caplog, samples):
    data = encoded(noise(3), "flac")
    wanted = plain(written(tmp_path / "good.flac", data))
    path = written(tmp_path / "bad.flac", with_total(data, samples))
    np.testing.assert_array_equal(read_audio(path, RATE), wanted)
    if samples:
        assert f"bad.flac promises {samples} samples in its header" in caplog.text


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "wav"])
def test_a_truncated_file_is_reported(tmp_path, caplog, suffix):
    data = encoded(noise(4), suffix)
    path = written(tmp_path / "cut", data[: len(data) // 2])
    with pytest.raises(AudioError, match="cut "):
        read_audio(path, RATE, strict=True)
    with pytest.raises(AudioError, match="cut "):
        list(read_blocks(path, RATE, strict=True))
    caplog.clear()
    assert RATE < len(read_audio(path, RATE)) < 3 * RATE
    assert "cut is truncated" in caplog.text


@pytest.mark.parametrize("format_", ["AIFF", "AU", "SVX", "MAT5", "NIST", "RF64", "VOC", "W64"])
def test_a_truncated_file_of_one_stream_is_reported(tmp_path, caplog, format_):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(2), RATE, format=format_, subtype="PCM_16")
    read_audio(written(tmp_path / "whole", buffer.getvalue()), RATE, strict=True)
    path = written(tmp_path / "cut", buffer.getvalue()[: buffer.tell() // 2])
    with pytest.raises(AudioError, match=r"cut is truncated: .* bytes are missing"):
        read_audio(path, RATE, strict=True)
    assert 0.8 * RATE < len(read_audio(path, RATE)) < 1.2 * RATE
    assert "cut is truncated" in caplog.text


def test_a_truncated_file_of_alac_is_reported(tmp_path, caplog):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(2), RATE, format="CAF", subtype="ALAC_16")
    read_audio(written(tmp_path / "whole", buffer.getvalue()), RATE, strict=True)
    lengths = []
    for share in np.linspace(0.5, 0.999, 20):
        path = written(tmp_path / "cut", buffer.getvalue()[: int(buffer.tell() * share)])
        caplog.clear()
        try:
            lengths.append(len(read_audio(path, RATE)))
        except AudioError:  # libsndfile refuses some
            continue
        assert "cut is truncated" in caplog.text
    assert lengths


def test_a_wav_file_of_a_pipe_has_no_length(tmp_path, caplog):
    data = bytearray(encoded(noise(1), "wav"))
    place = data.index(b"data") + 4
    for unknown in (b"\xff" * 4, bytes(4)):
        data[place : place + 4] = unknown
        path = written(tmp_path / "a.wav", data)
        assert len(read_audio(path, RATE, strict=True)) == RATE
    assert not caplog.text


@pytest.mark.parametrize("rate", [0, 1, 99, 2**31 - 1, 2**32 - 1])
def test_absurd_sample_rates_are_refused(tmp_path, rate):
    data = encoded(noise(0.1), "wav")
    path = written(tmp_path / "a.wav", data[:24] + struct.pack("<I", rate) + data[28:])
    with pytest.raises(AudioError, match=r"a\.wav (has a sample rate of|cannot be read)"):
        read_audio(path, RATE)
    with pytest.raises(AudioError, match="sample_rate is"):
        read_audio(path, rate)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("channels", [1, 2])
def test_values_that_are_not_audio_are_refused(tmp_path, value, channels):
    samples = noise(3, channels=channels)
    samples[-7, 0] = value
    path = written(tmp_path / "a.wav", encoded(samples, "wav", subtype="FLOAT"))
    for read in (read_audio, lambda *given: list(read_blocks(*given))):
        with pytest.raises(AudioError, match=r"a\.wav contains (NaN|values up to 1e\+30)"):
            read(path, RATE)


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError(), TypeError("x"), OSError("y")])
def test_any_error_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    path = written(tmp_path / "a.wav", encoded(noise(0.1), "wav"))

    def fail(*_):
        raise error

    monkeypatch.setattr(decoding, "_open", fail)
    with pytest.raises(AudioError, match=r"a\.wav cannot be read as audio: \w"):
        read_audio(path, RATE)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        read_audio(tmp_path, RATE)
    with pytest.raises(AudioError, match=r"cannot read x+: File name too long|no file"):
        read_audio("x" * 300, 32000)


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.1, 5])
def test_channels_that_cancel_each_other_are_not_averaged(tmp_path, caplog, seconds):
    left = noise(seconds)
    samples = np.concatenate([0.5 * left, -left, 0.5 * left], axis=1)
    path = written(tmp_path / "a.wav", encoded(samples, "wav", subtype="FLOAT"))
    np.testing.assert_array_equal(read_audio(path, RATE), samples[:, 1])
    assert "a.wav: the channels cancel each other out" in caplog.text
    assert "channel 2 of 3" in caplog.text
    for size in (100, 1 << 20):
        joined = np.concatenate(list(read_blocks(path, RATE, size)))
        np.testing.assert_array_equal(joined, -left[:, 0])


def test_channels_that_cancel_for_a_while_are_averaged_throughout(tmp_path, caplog):
    left, other = noise(3), noise(3, seed=1)
    right = np.where(np.arange(len(left))[:, None] < 2 * RATE, -left, other)
    path = written(tmp_path / "a.wav", encoded(np.concatenate([left, right], 1), "wav"))
    np.testing.assert_array_equal(read_audio(path, RATE), plain(path))
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, RATE))), plain(path))
    assert not caplog.text


def test_silence_in_several_channels_is_silence(tmp_path, caplog):
    path = written(tmp_path / "a.wav", encoded(np.zeros((1000, 2), "float32"), "wav"))
    assert not read_audio(path, RATE).any()
    assert not caplog.text


# --- containers -----------------------------------------------------------------------------------


def container(path, codec):
    """Write two seconds of a tone into a container."""
    av = pytest.importorskip("av")
    sound = np.stack([tone(2.0, 32000)] * 2)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=32000, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(sound, "fltp", "stereo")
        frame.sample_rate = 32000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.wma", "wmav2"), ("a.wv", "wavpack")]
)
def test_containers_are_read_with_pyav(tmp_path, name, codec):
    container(tmp_path / name, codec)
    waveform = read_audio(tmp_path / name, RATE).numpy()
    assert abs(len(waveform) - 2 * RATE) <= 4096
    level = np.sqrt(np.mean(waveform[8000:-8000] ** 2))
    assert level == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert len(np.concatenate(list(read_blocks(tmp_path / name, RATE, 1000)))) == len(waveform)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    with pytest.raises(AudioError, match=rf"{name} (cannot be read as audio|has no samples)"):
        read_audio(tmp_path / name, RATE)


FFMPEG = """#!{python}
import array, struct, sys
source = sys.argv[sys.argv.index("-i") + 1].removeprefix("file:")
if open(source, "rb").read() != b"unknown":
    sys.exit("first line\\nInvalid data found")
values = array.array("f", [i / 65536 for i in range(20000)])
values.byteswap()
sys.stdout.buffer.write(struct.pack(">4s5I", b".snd", 28, 2**32 - 1, 6, 32000, 2) + b"none")
sys.stdout.buffer.write(values.tobytes())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script does not pass for a program")
def test_containers_are_read_with_ffmpeg(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    wanted = (np.arange(20000, dtype="float32") / 65536).reshape(-1, 2).mean(axis=1)
    path = written(tmp_path / "a.m4a", b"unknown")
    np.testing.assert_array_equal(read_audio(path, RATE), wanted)
    with pytest.raises(AudioError, match=r"b\.m4a cannot be read as audio: Invalid data found"):
        read_audio(written(tmp_path / "b.m4a", b"other"), RATE)


def test_without_a_decoder_the_error_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    path = written(tmp_path / "a.M4A", b"\0\0\0\x18ftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r"a\.M4A .*install the extra 'av' .*or .*ffmpeg"):
        read_audio(path, RATE)
    assert ".m4a" in audio_suffixes()


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 3)), RATE, r"must have the shape \(samples,\), but has the shape \(2, 3\)"),
        (np.zeros(0), RATE, "must have samples"),
        (np.zeros(3, int), RATE, "must be floats"),
        (np.array([0, np.nan]), RATE, "NaN"),
        (np.zeros(3), 0, "sample_rate is 0 Hz"),
        (np.zeros(3), float("nan"), "sample_rate is nan Hz"),
    ],
)
def test_values_other_than_waveforms_are_refused(samples, rate, message):
    with pytest.raises(AudioError, match=message):
        as_waveform(samples, rate, RATE)


@pytest.mark.parametrize("channels", [1, 2])
def test_short_files_are_read_at_once_and_long_ones_are_not(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (70_000, channels))
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    expected = read_audio(tmp_path / "a.wav", 32000)
    assert torch.equal(read_if_short(tmp_path / "a.wav", 32000, 2.0), expected)
    assert read_if_short(tmp_path / "a.wav", 32000, 1.5) is None


def test_short_files_with_cancelling_channels(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, -0.5], [0.2, -0.2]] * 100), 32000)
    found = read_if_short(tmp_path / "a.wav", 32000, 2.0)
    assert torch.equal(found, read_audio(tmp_path / "a.wav", 32000))
    assert found.abs().max() > 0.4
    soundfile.write(tmp_path / "b.wav", np.zeros((0, 2)), 32000)
    with pytest.raises(AudioError, match="has no samples"):
        read_if_short(tmp_path / "b.wav", 32000, 2.0)


def test_blocks_know_the_duration_at_the_sample_rate_of_the_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(5 * 48000 + 1), 48000)
    blocks = read_blocks(tmp_path / "a.wav", 32000, 50_000)
    assert blocks.seconds == 0
    assert sum(map(len, blocks)) == 5 * 32000 + 1
    assert blocks.seconds == (5 * 48000 + 1) / 48000


def test_the_part_of_a_flac_file_before_damage_is_used(tmp_path, caplog):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 200_000)
    soundfile.write(tmp_path / "whole.flac", wave, 32000)
    content = (tmp_path / "whole.flac").read_bytes()
    wanted = soundfile.read(tmp_path / "whole.flac", dtype="float32")[0]
    middle = len(content) // 2
    for name, damaged in {
        "cut.flac": content[: len(content) * 6 // 10],
        "hole.flac": content[:middle] + bytes([255]) * 200 + content[middle + 200 :],
        "early.flac": content[: len(content) // 10],
    }.items():
        (tmp_path / name).write_bytes(damaged)
        found = read_audio(tmp_path / name, 32000).numpy()
        share = len(found) / len(wanted)
        assert abs(share - len(damaged.partition(bytes([255]) * 99)[0]) / len(content)) < 0.1
        np.testing.assert_array_equal(found, wanted[: len(found)])
        assert f"{name} is truncated or damaged after" in caplog.text
