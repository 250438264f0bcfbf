"""The plug-in model, with the smallest network and weights that are random but the same."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_core.errors import AudioError, CheckpointError, ConfigError
from hear_core.plugins.plugin_model import check_audio
from hear_mn import mn01_all_b_mel_avgs as plugin

MODEL = plugin.load_model(pretrained=False, taps=["mel_avgs", "all_b", "logits"], engine="torch")
RATE = MODEL.sample_rate
WINDOW, HOP = 5120, 1600

STATUS = Path("/proc/self/status")


def sound(samples, clips=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * (2 * torch.rand(clips, samples, generator=generator) - 1)


def one_by_one(audio, window, hop):
    """The embeddings of windows cut by numpy, each run alone."""
    padded = np.pad(audio.numpy(), ((0, 0), (window // 2, window // 2)), mode="reflect")
    count = audio.shape[1] // hop + 1
    cuts = [padded[:, i * hop : i * hop + window] for i in range(count)]
    with torch.no_grad():
        return torch.stack([MODEL.extractor(torch.from_numpy(cut)) for cut in cuts], dim=1)


@pytest.mark.parametrize(
    "samples", [1, 2, 320, 401, 402, 513, 5088, 5119, 5120, 5121, 5152, 31999, 32000]
)
def test_timestamps_of_any_length(samples):
    audio = sound(samples, clips=2)
    embeddings, timestamps = MODEL.get_timestamp_embeddings(audio)
    assert embeddings.shape == (2, samples // HOP + 1, MODEL.timestamp_embedding_size)
    assert timestamps.shape == embeddings.shape[:2]
    assert timestamps[0].tolist() == [50.0 * i for i in range(samples // HOP + 1)]
    torch.testing.assert_close(embeddings, one_by_one(audio, WINDOW, HOP), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 320, 401, 402, 513, 5119, 5121, 48000, 320000])
def test_scenes_up_to_the_window_are_embedded_as_a_whole(samples):
    audio = sound(samples, clips=2)
    embeddings = MODEL.get_scene_embeddings(audio)
    missing = max(0, MODEL.extractor.frontend.min_samples - samples)
    whole = torch.from_numpy(np.pad(audio.numpy(), ((0, 0), (0, missing)), mode="reflect"))
    with torch.no_grad():
        torch.testing.assert_close(embeddings, MODEL.extractor(whole), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("samples", [320001, 800000])
def test_longer_scenes_are_the_mean_of_windows(samples):
    audio = sound(samples, clips=2)
    expected = one_by_one(audio, 320000, 80000).mean(1)
    torch.testing.assert_close(MODEL.get_scene_embeddings(audio), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30)
@given(
    samples=st.integers(1, 40000),
    clips=st.integers(1, 5),
    megabytes=st.sampled_from([0.01, 0.5, 4.0, 64.0]),
)
def test_a_batch_is_its_rows(samples, clips, megabytes):
    model = plugin.load_model(pretrained=False, megabytes=megabytes, engine="torch")
    audio = sound(samples, clips)
    scenes = model.get_scene_embeddings(audio)
    embeddings, _ = model.get_timestamp_embeddings(audio)
    for row in range(clips):
        alone = audio[row : row + 1]
        torch.testing.assert_close(
            scenes[row : row + 1], model.get_scene_embeddings(alone), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            embeddings[row : row + 1],
            model.get_timestamp_embeddings(alone)[0],
            atol=1e-5,
            rtol=1e-5,
        )


def test_windows_go_through_the_network_in_batches():
    model, calls = plugin.load_model(pretrained=False, engine="torch"), []
    model.extractor.register_forward_hook(lambda m, args, _: calls.append(len(args[0])))
    model.get_timestamp_embeddings(sound(320000))
    assert sum(calls) == 201
    assert len(calls) <= 3


def test_memory_limits_the_batches():
    model = plugin.load_model(pretrained=False, megabytes=1.0, engine="torch")
    calls = []
    model.extractor.register_forward_hook(lambda m, args, _: calls.append(len(args[0])))
    model.get_timestamp_embeddings(sound(320000))
    assert sum(calls) == 201
    assert len(calls) > 10


def test_silence_gives_finite_embeddings():
    assert MODEL.get_scene_embeddings(torch.zeros(1, 32000)).isfinite().all()


def test_the_same_input_gives_the_same_output():
    audio = sound(48000)
    assert torch.equal(MODEL.get_scene_embeddings(audio), MODEL.get_scene_embeddings(audio))


def test_no_global_random_state_is_touched():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model = plugin.load_model(pretrained=False)
    model.get_scene_embeddings(sound(16000))
    model.get_timestamp_embeddings(sound(16000))
    assert torch.equal(torch.get_rng_state(), before)


def test_embeddings_can_be_trained_upon():
    embeddings = MODEL.get_scene_embeddings(sound(16000, clips=2))
    layer = torch.nn.Linear(embeddings.shape[1], 3)
    layer(embeddings).sum().backward()
    assert layer.weight.grad.isfinite().all()
    assert not embeddings.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_taken(dtype):
    audio = sound(16000).to(dtype)
    embeddings = MODEL.get_scene_embeddings(audio)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, MODEL.get_scene_embeddings(audio.float()))


@pytest.mark.parametrize(
    "strange",
    [
        lambda a: a.requires_grad_(),
        lambda a: a.flip(1),
        lambda a: a[:, :1].expand(1, 16000),
        lambda a: torch.nn.Parameter(a),
        lambda a: a[:, ::2],
        torch._neg_view,
    ],
)
def test_strange_tensors_are_taken(strange):
    assert MODEL.get_scene_embeddings(strange(sound(16000))).shape == (1, MODEL.extractor.size)


def test_a_column_of_a_larger_tensor_is_taken():
    audio = sound(16000, clips=2)
    torch.testing.assert_close(
        MODEL.get_scene_embeddings(audio.T.contiguous().T), MODEL.get_scene_embeddings(audio)
    )


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(16000), r"has the shape \(16000,\).*audio\[None\]"),
        (torch.zeros(1, 2, 16000), r"has the shape \(1, 2, 16000\).*mix it down"),
        (torch.zeros(1, 16000, dtype=torch.int16), r"has the type torch.int16.*int16 / 32768"),
        (torch.zeros(1, 16000).to_sparse(), r"of layout torch.sparse_coo; pass a dense one"),
        (torch.zeros(1, 16000, device="meta"), r"is on the device 'meta' and has no values"),
        (torch.zeros(1, 0), r"is empty"),
        (torch.zeros(0, 16000), r"is empty"),
        (torch.tensor([[0.0, 0.0], [0.0, float("nan")]]), r"NaN or infinite values, in clip 1"),
        (torch.tensor([[0.0, float("inf")]]), r"NaN or infinite values, in clip 0"),
        (torch.tensor([[0.0, 1e38]]), r"goes from 0 to 1e\+38; it must be in about"),
        (np.zeros((1, 16000), "float32"), r"is a ndarray; pass a torch.Tensor"),
    ],
)
def test_invalid_audio_is_refused(audio, message):
    with pytest.raises(AudioError, match=message):
        MODEL.get_scene_embeddings(audio)
    with pytest.raises(AudioError, match=message):
        MODEL.get_timestamp_embeddings(audio)


def test_values_far_outside_are_warned_of():
    with pytest.warns(UserWarning, match=r"audio goes from 0 to 3.28e\+04.* within \[-1, 1\]"):
        MODEL.get_scene_embeddings(torch.tensor([[0.0, 32768.0]]))


def test_samples_and_channels_are_not_silently_clips():
    with pytest.warns(UserWarning, match=r"\(1000, 2\) is taken as 1000 clips of 2 samples"):
        check_audio(torch.zeros(1000, 2))


@pytest.mark.filterwarnings("error")
def test_slight_overshoot_is_not():
    MODEL.get_scene_embeddings(1.5 * torch.ones(1, 1000))


def test_options_reach_everything():
    model = plugin.load_model(
        pretrained=False,
        backbone="mn02_as",
        taps=["l"],
        timestamp_hop=0.025,
        timestamp_window=0.32,
        num_classes=10,
    )
    embeddings, timestamps = model.get_timestamp_embeddings(sound(32000))
    assert embeddings.shape == (1, 41, 10)
    assert timestamps[0, :3].tolist() == [0, 25, 50]


def test_timestamps_of_an_uneven_hop_do_not_drift():
    model = plugin.load_model(pretrained=False, taps=["mel_avgs"], timestamp_hop=1 / 30)
    _, timestamps = model.get_timestamp_embeddings(sound(RATE * 60))
    hop = round(RATE / 30)
    expected = np.arange(timestamps.shape[1], dtype=np.float64) * hop * 1000 / RATE
    np.testing.assert_array_equal(timestamps[0], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tap": ["l"]}, r"unknown option 'tap'; did you mean 'taps'"),
        ({"taps": ["logit"]}, r"unknown tap 'logit'; did you mean 'logits'"),
        ({"backbone": "mn1_as"}, r"unknown backbone 'mn1_as'; did you mean 'mn\d\d_as'"),
        ({"pooling": "mean"}, r"unknown pooling 'mean'"),
        ({"timestamp_window": 0.001}, r"a window of 0.001 s is too short"),
        ({"timestamp_hop": float("nan")}, r"timestamp_hop must be a number .*, not nan"),
        ({"scene_window": float("inf")}, r"scene_window must be a number .*, not inf"),
        ({"scene_hop": -1}, r"scene_hop must be a number from 0.001 to 60 seconds, not -1"),
        ({"timestamp_hop": 1e-12}, r"timestamp_hop must be a number .*, not 1e-12"),
        ({"timestamp_window": "1"}, r"timestamp_window must be a number .*, not '1'"),
        ({"megabytes": 0}, r"megabytes must be a number from 0.001 to 1e\+06, not 0"),
        ({"megabytes": float("nan")}, r"megabytes must be a number .*, not nan"),
        ({"num_classes": -1}, r"num_classes must be a whole number from 1 to 100000, not -1"),
        ({"num_classes": 2.5}, r"num_classes must be a whole number .*, not 2.5"),
        ({"num_classes": 10**12}, r"num_classes must be .*, not 1000000000000"),
        ({"model_file_path": "w.pt"}, r"pretrained=False takes no weights"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        plugin.load_model(pretrained=False, **options)


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match=r"gone.pt does not exist"):
        plugin.load_model("gone.pt")


def test_a_warning_is_logged_for_random_weights(caplog):
    plugin.load_model(pretrained=False)
    assert "and so are its embeddings" in caplog.text


def test_nothing_is_printed(capfd):
    plugin.load_model(pretrained=False).get_scene_embeddings(sound(16000))
    assert capfd.readouterr().out == ""


def test_models_can_be_pickled():
    copy = pickle.loads(pickle.dumps(MODEL))
    audio = sound(16000)
    assert torch.equal(copy.get_scene_embeddings(audio), MODEL.get_scene_embeddings(audio))


def test_models_have_a_short_name():
    assert repr(MODEL) == "PluginModel(mn01_as: mel_avgs, b5, b11, b13, b15, logits -> 711)"


@pytest.mark.skipif(not STATUS.exists(), reason="there is no /proc, which tells the peak of memory")
@pytest.mark.parametrize("kind", ["scene", "timestamp"])
def test_twenty_minutes_stay_below_two_gigabytes(kind):
    # The peak in the status is that of the program alone; `getrusage` includes what its parent
    # had when it was forked.
    code = (
        "import re, torch; from hear_mn import mn04_e1_l as p\n"
        "m = p.load_model(pretrained=False); a = torch.rand(1, 32000 * 1200) - 0.5\n"
        f"m.get_{kind}_embeddings(a)\n"
        f"print(re.search(r'VmHWM:\\s+(\\d+) kB', open({str(STATUS)!r}).read())[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 2e6  # kilobytes
