"""The networks of PANNs against the originals, with stand-in weights in files like theirs."""

from __future__ import annotations

import gc
import importlib
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hear_core.errors import CheckpointError, ConfigError
from hear_core.frontends.mel_banks import slaney_mel_bank
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.networks.panns import Panns
from hear_core.zoo.download import sha256_of
from hear_core.zoo.registry import Zoo
from hear_mn import ZOO
from tests import goldens
from tests.goldens import waveform
from tests.goldens.fill import fill_state

ARCHITECTURES = {"cnn14": "Cnn14", "cnn14_16k": "Cnn14_16k"}
CLOSE = {"atol": 5e-6, "rtol": 1e-5}
rows = pytest.mark.parametrize("row", ARCHITECTURES)


@pytest.fixture(scope="module")
def network():
    return ZOO.random_init("cnn14").eval()


@pytest.fixture(scope="module", params=["cnn14_16k", pytest.param("cnn14", marks=pytest.mark.slow)])
def released(request, tmp_path_factory):
    """The name of a row, and a file of stand-in weights laid out as the one released."""
    file = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    content = {
        "iteration": 600000,
        "model": goldens.panns(ARCHITECTURES[request.param]),
        "sampler": {"indexes_per_class": [np.arange(5)], "queue": [3, 1], "pointers": [0, 2]},
    }
    torch.save(content, file, _use_new_zipfile_serialization=False)
    yield request.param, file
    file.unlink()


def golden(row, what):
    return goldens.arrays("sed/panns")[f"{ARCHITECTURES[row]}.{what}"]


def run(network, log_mel, taps):
    with torch.inference_mode():
        return network(torch.as_tensor(log_mel), taps)


def module(row):
    return importlib.import_module(f"hear_mn.{row}")


@pytest.mark.parametrize("folded", [False, True])
@rows
def test_equals_the_original(row, folded):
    network = ZOO[row].build().eval()
    state = {k: v for k, v in goldens.panns(ARCHITECTURES[row]).items() if "extractor" not in k}
    network.load_state_dict(state)
    if folded:
        fold_batch_norms(network)
        network.to(memory_format=torch.channels_last)
    values = run(network, golden(row, "logmel").squeeze(1).swapaxes(1, 2).copy(), ("clf", "logits"))
    goldens.assert_close(values["clf"], golden(row, "embedding"), **CLOSE)
    goldens.assert_close(values["logits"].sigmoid(), golden(row, "clipwise_output"), **CLOSE)


@pytest.mark.parametrize("decision", ["max", "avg", "att"])
def test_decisions_for_segments_equal_the_original(decision):
    name = f"Cnn14_DecisionLevel{decision.title()}"
    network = Panns(decision=decision).eval()
    state = {k: v for k, v in goldens.panns(name).items() if "extractor" not in k}
    network.load_state_dict(state)
    fold_batch_norms(network)
    log_mel = ZOO["cnn14_max"].frontend()(waveform(2.0, batch=2, sample_rate=32000))
    values = run(network, log_mel, tuple(network.tap_shapes))
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (2, channels) if bands is None else (2, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
    found = goldens.arrays("sed/panns")
    golden = found[f"{name}.clipwise_output"]
    goldens.assert_close(values["logits"].sigmoid(), golden, atol=1e-5, rtol=1e-4)
    # The original repeats every segment for its 32 frames, and the last one up to the end.
    segments = values["segments"].sigmoid().squeeze(2).transpose(1, 2)
    frames = segments.repeat_interleave(32, dim=1)
    frames = torch.cat([frames, frames[:, -1:].expand(-1, 201 - 192, -1)], dim=1)
    golden = found[f"{name}.framewise_output"]
    goldens.assert_close(frames[:, :: -(-201 // golden.shape[1])], golden, atol=1e-5, rtol=1e-4)


def test_a_released_file_of_a_variant_is_not_loaded_as_another(tmp_path, monkeypatch):
    """Their weights have the same names and shapes."""
    record = ZOO["cnn14_max"]
    path = tmp_path / record.checkpoint.file
    path.write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"decision is 'max' in the file and 'clip' here"):
        ZOO.load("cnn14", path)
    renamed = path.rename(tmp_path / "own.pth")
    checkpoint = replace(record.checkpoint, sha256=sha256_of(renamed))
    zoo = Zoo({**ZOO, "cnn14_max": replace(record, checkpoint=checkpoint)})
    with pytest.raises(CheckpointError, match=r"decision is 'max' in the file and 'clip' here"):
        zoo.load("cnn14", renamed)


FAMILY = [name for name, record in ZOO.items() if record.checkpoint.model][:-1]
SMALL = ("cnn6", "cnn10", "mobilenet_v1", "mobilenet_v2")


def rows_of(state):
    return {key: (str(value.dtype).split(".")[1], value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", FAMILY)
def test_a_network_has_the_tensors_of_the_original(name):
    """Their names and shapes, as a checksum of a list of them."""
    rows = rows_of(ZOO[name].skeleton().state_dict())
    text = "\n".join(sorted(f"{key} {tuple(shape)}" for key, (_, shape) in rows.items()))
    model = ZOO[name].checkpoint.model
    assert zlib.crc32(text.encode()) == goldens.arrays("sed/panns_family")[f"{model}.crc"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SMALL else pytest.mark.slow) for n in FAMILY]
)
def test_a_network_computes_what_the_original_does(name):
    """The stand-in weights are larger than usual, so that the signal reaches the last layer."""
    record = ZOO[name]
    network = record.build().eval()
    gain = 1.0 if name.startswith("resnet") else 1.7
    filled = fill_state(rows_of(network.state_dict()))
    state = {k: torch.as_tensor(v) * (gain if v.ndim > 1 else 1) for k, v in filled.items()}
    network.load_state_dict(state)
    frontend = record.frontend()
    log_mel = frontend(waveform(1.0, batch=2, sample_rate=frontend.sample_rate))
    values = run(network.exportable(), log_mel, tuple(network.tap_shapes))
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (2, channels) if bands is None else (2, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
    found = goldens.arrays("sed/panns_family")
    model = record.checkpoint.model
    expected = torch.as_tensor(found[f"{model}.clipwise_output"])
    goldens.assert_close(values["logits"].sigmoid()[:, ::16], expected, atol=2e-3, rtol=1e-3)
    if f"{model}.embedding" in found:
        expected = torch.as_tensor(found[f"{model}.embedding"])
        step = max(1, values["clf"].shape[1] // 32)
        assert relative(values["clf"][:, ::step], expected) < 1e-4


def test_the_shortest_input_is_known(network):
    for name in ("cnn6", "mobilenet_v2"):
        small = ZOO[name].build().eval()
        run(small, torch.randn(1, 64, small.min_frames), ("logits",))
        with pytest.raises(RuntimeError):
            run(small, torch.randn(1, 64, small.min_frames - 1), ("logits",))


def test_a_wavegram_takes_the_waveform_with_the_log_mel():
    frontend = ZOO["wavegram_cnn14"].frontend()
    samples = torch.arange(1000.0)[None] / 1000
    rows = frontend(samples)
    assert rows.shape == (1, frontend.n_mels, frontend.frames(1000)) == (1, 384, 4)
    assert torch.equal(rows[:, :64], ZOO["cnn14"].frontend()(samples))
    assert torch.equal(rows[0, 64:, :3].T.flatten(), samples[0, :960])
    assert not rows[0, 64:, 3].any()


@pytest.mark.parametrize(
    "path",
    [
        "Cnn14_DecisionLevelAvg_mAP=0.400.pth",
        "data_type=full_train/Cnn14_DecisionLevelAvg/loss_type=clip_bce/600000_iterations.pth",
    ],
)
def test_a_file_of_another_network_is_refused_by_its_name_or_folder(path, tmp_path):
    """Its weights have the same names and shapes, and loaded before."""
    path = tmp_path / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"decision is 'avg' in the file and 'clip' here"):
        ZOO.load("cnn14", path)


def tiny_file(path, zoo_name="cnn6", n_mels=64, sample_rate=32000, fmax=14000.0):
    """A file in the layout of the original, with the constants of a front-end."""
    window = 1024 * sample_rate // 32000
    constants = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(window // 2 + 1, 1, window),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(window // 2 + 1, 1, window),
        "logmel_extractor.melW": slaney_mel_bank(n_mels, window, sample_rate, 50.0, fmax).T,
    }
    torch.save({"model": ZOO.random_init(zoo_name).state_dict() | constants}, path)
    return path


def test_the_front_end_of_a_file_must_be_that_of_the_network(tmp_path):
    own = tiny_file(tmp_path / "own.pth")
    assert ZOO.open("", own).record.arguments == ZOO["cnn6"].arguments  # it fits no other
    other = tiny_file(tmp_path / "fmax.pth", fmax=16000.0)
    with pytest.raises(CheckpointError, match=r"another front-end: logmel_extractor.melW has"):
        ZOO.load("cnn6", other)
    with pytest.raises(CheckpointError, match=r"logmel_extractor.melW is \(257, 64\) in the file"):
        ZOO.load("cnn6", tiny_file(tmp_path / "16k.pth", sample_rate=16000, fmax=8000.0))
    with pytest.raises(CheckpointError, match=r"logmel_extractor.melW is \(513, 128\) in the"):
        ZOO.load("cnn6", tiny_file(tmp_path / "mel128.pth", n_mels=128))


def test_transferred_weights_load_with_their_number_of_classes(tmp_path):
    state = goldens.panns("Transfer_Cnn14")
    classes = len(state["fc_transfer.bias"])
    torch.save({"model": state}, tmp_path / "own.pth")
    loaded = ZOO.open("cnn14_transfer", tmp_path / "own.pth", num_classes=classes)
    assert torch.equal(loaded.network.fc_audioset.weight, state["fc_transfer.weight"])
    assert torch.equal(loaded.network.fc1.weight, state["base.fc1.weight"])
    assert loaded.record.labels == tuple(f"class {index}" for index in range(classes))


def test_an_unknown_decision_is_explained():
    with pytest.raises(ConfigError, match=r"unknown decision 'mean'"):
        Panns(decision="mean")


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_plugins_equal_the_original(released, engine, tmp_path, monkeypatch):
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    row, file = released
    model = module(row).load_model(str(file), engine=engine, taps=["embedding", "logits"])
    audio = waveform(2.0, batch=2, sample_rate=model.sample_rate)
    embedding, logits = module(row).get_scene_embeddings(audio, model).split([2048, 527], dim=1)
    goldens.assert_close(embedding, golden(row, "embedding"), **CLOSE)
    goldens.assert_close(logits.sigmoid(), golden(row, "clipwise_output"), **CLOSE)


def test_a_file_that_lacks_a_key_or_is_for_another_rate_is_refused(released, tmp_path):
    row, file = released
    other = next(name for name in ARCHITECTURES if name != row)
    with pytest.raises(CheckpointError) as error:
        ZOO.load(other, file)
    assert "stft.conv_real.weight is" in str(error.value)
    assert f"It fits {row}" in str(error.value)
    state = torch.load(file, weights_only=False)["model"]
    del state["conv_block3.bn2.running_var"]
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"it lacks conv_block3.bn2.running_var$"):
        ZOO.load(row, tmp_path / "w.pth")


@rows
def test_the_rows_are_what_was_released(row):
    facts = goldens.facts("sed/checkpoints")["panns"]["from_readme"]
    facts = facts[ARCHITECTURES[row]]
    ours, frontend = ZOO[row], ZOO[row].frontend()
    assert ours.checkpoint.file == facts["file"]
    assert ours.checkpoint.url == facts["url"].removesuffix("?download=1")
    assert ours.reported_metrics == {"mAP": facts["mAP"]}
    assert frontend.sample_rate == facts["front_end"]["sample_rate"]
    assert frontend.window == facts["front_end"]["window_size"]
    assert frontend.hop == facts["front_end"]["hop_size"]
    assert frontend.n_mels == facts["front_end"]["mel_bins"]
    computed = {
        k: v.shape for k, v in goldens.panns(ARCHITECTURES[row]).items() if k in ours.constants
    }
    assert computed == ours.constants


@pytest.mark.parametrize("frames", [32, 101])
def test_gives_what_it_declares(network, frames):
    values = run(network, torch.randn(2, 64, frames), tuple(network.tap_shapes))
    assert values.keys() == network.tap_shapes.keys()
    for index in range(1, 7):
        channels, bands = network.tap_shapes[f"b{index}"]
        assert values[f"b{index}"].shape == (2, channels, bands, frames >> min(index, 5))
    for tap in ("e1", "clf", "logits"):
        assert values[tap].shape == (2, *network.tap_shapes[tap][:1])
    assert sum(p.numel() for p in network.parameters()) == 80753615


def test_maps_have_frequency_before_time(network):
    """A sound in the upper half of the first frames is found there in the first map."""
    log_mel = torch.full((1, 64, 96), -100.0)
    silence = run(network, log_mel, ("b1",))["b1"]
    log_mel[:, 40:, :16] = 0.0
    (bands, frames) = (run(network, log_mel, ("b1",))["b1"] - silence)[0].abs().amax(0).nonzero().T
    assert bands.min() >= 19
    assert frames.max() <= 9


def test_fewer_frames_than_min_frames_are_too_few(network):
    with pytest.raises(RuntimeError):
        run(network, torch.randn(1, 64, network.min_frames - 1), ("logits",))


@pytest.mark.parametrize(
    ("tap", "last"),
    [("b1", "conv_block1.relu2"), ("b6", "conv_block6.relu2"), ("logits", "fc_audioset")],
)
def test_nothing_runs_after_the_deepest_tap(network, tap, last):
    ran = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, layer in network.named_modules()
        if not any(layer.children())
    ]
    alone = run(network, torch.ones(1, 64, 40), (tap,))
    for hook in hooks:
        hook.remove()
    assert ran[-1] == last
    assert alone.keys() == {tap}
    together = run(network, torch.ones(1, 64, 40), tuple(network.tap_shapes))
    assert torch.equal(alone[tap], together[tap])


def test_learns():
    network = ZOO.random_init("cnn14", num_classes=3)
    loss = nn.functional.cross_entropy(
        network(torch.randn(2, 64, 32))["logits"], torch.tensor([0, 2])
    )
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@pytest.fixture(scope="module")
def plugin():
    gc.collect()  # the networks of other tests are large
    return module("cnn14_16k").load_model(pretrained=False, engine="torch")


def sound(samples, clips=1):
    return torch.rand(clips, samples, generator=torch.Generator().manual_seed(samples)) - 0.5


def relative(found, expected):
    """The norm of the difference; random weights give embeddings that are small themselves."""
    return (found - expected).norm() / expected.norm()


@pytest.mark.parametrize("samples", [1, 2, 4959, 4960, 12000])
def test_clips_of_any_length(plugin, samples):
    audio = sound(samples, clips=2)
    scenes = plugin.get_scene_embeddings(audio)
    embeddings, timestamps = plugin.get_timestamp_embeddings(audio)
    count = samples // 800 + 1
    assert scenes.shape == (2, plugin.scene_embedding_size) == (2, 2048)
    assert embeddings.shape == (2, count, plugin.timestamp_embedding_size)
    assert timestamps.tolist() == 2 * [[50.0 * i for i in range(count)]]
    for index in (0, 1):
        alone = audio[index : index + 1]
        assert relative(scenes[index : index + 1], plugin.get_scene_embeddings(alone)) < 1e-5
        expected, _ = plugin.get_timestamp_embeddings(alone)
        assert relative(embeddings[index : index + 1], expected) < 1e-5


def test_a_timestamp_is_its_window(plugin):
    audio = sound(40000)
    embeddings, _ = plugin.get_timestamp_embeddings(audio)
    window = audio[:, 20 * 800 - 8000 : 20 * 800 + 8000]
    expected = plugin.get_scene_embeddings(window)
    assert relative(embeddings[:, 20], expected) < 1e-5
    assert relative(embeddings[:, 21], expected) > 1e-3


@pytest.mark.slow
def test_engines_agree(plugin, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    onnx = module("cnn14_16k").load_model(pretrained=False, engine="onnx")
    for samples in (1, 24000):
        audio = sound(samples, clips=2)
        for ours, theirs in [
            (plugin.get_scene_embeddings(audio), onnx.get_scene_embeddings(audio)),
            (plugin.get_timestamp_embeddings(audio)[0], onnx.get_timestamp_embeddings(audio)[0]),
        ]:
            assert relative(theirs, ours) < 1e-4


def test_the_rate_is_that_of_the_network(plugin):
    assert plugin.sample_rate == 16000
    assert "Audio is mono at 16000 Hz" in module("cnn14_16k").__doc__
    assert "Audio is mono at 32000 Hz" in module("cnn14").__doc__


def test_a_window_that_the_poolings_leave_nothing_of_is_refused():
    message = r"a window of 0.16 s is too short for cnn14; it takes 0.31 s"
    with pytest.raises(ConfigError, match=message):
        module("cnn14").load_model(pretrained=False, timestamp_window=0.16)
