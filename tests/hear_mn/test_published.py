"""Every published embedding: its size, and its numbers against those of the originals."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from hear_core.audio.reading import read_audio
from hear_core.plugins.configs import embedding_configs
from hear_mn import ZOO
from hear_mn.mobilenet import MobileNet
from tests import goldens
from tests.goldens import waveform
from tests.shared import METRO, MN04, REAL_GOLDENS, needs_metro, needs_mn04, needs_real_goldens

CONFIGS = embedding_configs("hear_mn")
# One name for each embedding: an alias is the very same object.
NAMES = list({id(config): name for name, config in reversed(CONFIGS.items())}.values())
ORIGINALS = goldens.facts("mn/modules")["modules"]


def module(name):
    return importlib.import_module(f"hear_mn.{name}")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Return a function that writes the stand-in weights of an architecture to a file, once."""
    folder = tmp_path_factory.mktemp("weights")

    def write(architecture, calibrated):
        path = folder / f"{architecture}-{calibrated}.pt"
        if not path.is_file():
            torch.save(goldens.mobilenet(architecture, calibrated=calibrated), path)
        return str(path)

    return write


def model(original, stand_in, engine, *, calibrated=True):
    facts = ORIGINALS[original]
    path = stand_in(facts["network"], calibrated)
    return module(original.split(".")[1]).load_model(path, engine=engine)


engines = pytest.mark.parametrize("engine", ["torch", "onnx"])


def tolerance(original):
    """Wide for 256 mel bands, whose lowest filters see almost nothing but rounding."""
    return {"atol": 3e-3 if ORIGINALS[original]["mel"]["n_mels"] == 256 else 1e-3, "rtol": 1e-4}


@pytest.fixture(scope="module")
def random_init():
    """Return random networks without making any of them twice."""
    made = {}

    def get(name, *, num_classes=None):
        if name not in made:
            made[name] = ZOO[name].build(num_classes)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_declared_size_is_observed_size(name, random_init, monkeypatch):
    monkeypatch.setattr(ZOO, "random_init", random_init)
    loaded = module(name).load_model(pretrained=False, engine="torch")
    audio = torch.rand(1, 2000) - 0.5
    scene = module(name).get_scene_embeddings(audio, loaded)
    timestamp, _ = module(name).get_timestamp_embeddings(audio, loaded)
    assert scene.shape == (1, loaded.scene_embedding_size)
    count = 1 + int(2000 / loaded.sample_rate / loaded.config.timestamp_hop)
    assert timestamp.shape == (1, count, loaded.timestamp_embedding_size)
    assert f"an embedding of {loaded.scene_embedding_size} numbers" in module(name).__doc__


def test_everything_the_originals_published_is_published():
    rows = {name: ZOO[CONFIGS[name].backbone] for name in NAMES}
    released = {name: row for name, row in rows.items() if row.checkpoint.url}
    theirs = {name for name, row in released.items() if row.network is MobileNet}
    theirs -= {name for name in NAMES if "_bands4" in name}  # ours
    assert {original.split(".")[1] for original in ORIGINALS} == theirs


def large(original):
    """Say whether a network takes seconds to be filled with numbers, or to be made a graph."""
    return ORIGINALS[original]["network"] in ("mn20", "mn30", "mn40")


def with_engines():
    """Yield every original with both engines; that many graphs take minutes to make."""
    for original, facts in ORIGINALS.items():
        small = facts["network"] in ("mn01", "mn02", "mn04", "mn05")
        yield pytest.param(original, "torch", marks=[pytest.mark.slow] if large(original) else [])
        yield pytest.param(original, "onnx", marks=[] if small else [pytest.mark.slow])


@pytest.mark.parametrize(("original", "engine"), list(with_engines()))
def test_scene_embeddings_equal_the_original(original, engine, stand_in):
    loaded = model(original, stand_in, engine)
    assert loaded.scene_embedding_size == ORIGINALS[original]["actual_scene_embedding_size"]
    ours = loaded.get_scene_embeddings(waveform(1.0, batch=2))
    golden = goldens.arrays("mn/hear_scene_calib")[original]
    goldens.assert_close(ours, golden, **tolerance(original))


@pytest.mark.parametrize(
    "original", [pytest.param(o, marks=[pytest.mark.slow] if large(o) else []) for o in ORIGINALS]
)
def test_plain_scene_embeddings_equal_the_original(original, stand_in):
    ours = model(original, stand_in, "torch", calibrated=False).get_scene_embeddings(
        waveform(1.0, batch=2)
    )
    golden = goldens.arrays("mn/hear_scene_plain_first_clip")[original]
    goldens.assert_close(ours[:1], golden.reshape(1, -1), **tolerance(original))


def stored(file):
    """Return the modules that a file has golden arrays of, with their mode and what they are."""
    names = goldens.arrays(file)
    return sorted({tuple(name.split(".")[:3]) for name in names})


@engines
@pytest.mark.parametrize(("generation", "name", "mode"), stored("mn/hear_scene_25s_calib"))
def test_long_scene_embeddings_equal_the_original(generation, name, mode, stand_in, engine):
    original = f"{generation}.{name}"
    ours = model(original, stand_in, engine).get_scene_embeddings(waveform(25.0))
    golden = goldens.arrays("mn/hear_scene_25s_calib")[f"{original}.{mode}"]
    goldens.assert_close(ours, golden.reshape(1, -1), **tolerance(original))


@engines
@pytest.mark.parametrize(("generation", "name", "mode"), stored("mn/hear_timestamps"))
def test_timestamp_embeddings_equal_the_original(generation, name, mode, stand_in, engine):
    original = f"{generation}.{name}"
    loaded = model(original, stand_in, engine, calibrated=mode == "calib")
    ours, timestamps = loaded.get_timestamp_embeddings(waveform(1.0))
    golden = goldens.arrays("mn/hear_timestamps")
    rows = goldens.facts("mn/modules")["timestamp_rows_stored"].get(original, slice(None))
    np.testing.assert_array_equal(timestamps[0], golden[f"{original}.{mode}.timestamps"])
    expected = golden[f"{original}.{mode}.embeddings"]
    goldens.assert_close(ours[0, rows], expected, **tolerance(original))


@needs_mn04
@needs_real_goldens
@engines
def test_embeddings_of_the_released_weights_equal_the_original(engine):
    golden = np.load(REAL_GOLDENS / "hear_mn04_real.npz")
    metro = np.load(REAL_GOLDENS / "metro_mn04_real.npz")["waveform_int16"] / np.float32(32768)
    for original in ("hear001.mn04_e1_l", "hear002.mn04_all_b_mel_avgs"):
        loaded = module(original.split(".")[1]).load_model(str(MN04), engine=engine)
        embeddings, timestamps = loaded.get_timestamp_embeddings(waveform(1.0))
        found = {
            "scene_1s": loaded.get_scene_embeddings(waveform(1.0, batch=2)),
            "scene_25s": loaded.get_scene_embeddings(waveform(25.0))[0],
            "scene_metro_int16_10s": loaded.get_scene_embeddings(torch.from_numpy(metro)[None])[0],
            "timestamps_1s.embeddings": embeddings[0],
            "timestamps_1s.timestamps": timestamps[0],
        }
        assert {f"{original}.{key}" for key in found} == {k for k in golden.files if original in k}
        for key, value in found.items():
            goldens.assert_close(value, golden[f"{original}.{key}"], atol=1e-4)


@needs_mn04
@needs_metro
def test_the_metro_clip_is_a_train():
    names = [row["display_name"] for row in goldens.facts("sed/labels_audioset_527")]
    loaded = module("mn04_e1_l").load_model(str(MN04), taps=["logits"])
    audio = read_audio(METRO, 32000)
    probabilities, classes = loaded.get_scene_embeddings(audio[None])[0].sigmoid().topk(5)
    expected = {
        "Train": 0.727,
        "Rail transport": 0.578,
        "Railroad car, train wagon": 0.560,
        "Subway, metro, underground": 0.493,
        "Vehicle": 0.240,
    }
    assert [names[i] for i in classes] == list(expected)
    np.testing.assert_allclose(probabilities, list(expected.values()), atol=0.02)


def test_every_alias_is_another_spelling_of_a_published_name():
    aliases = set(CONFIGS) - set(NAMES)
    assert len(aliases) == 14
    assert all(CONFIGS[alias] is CONFIGS[alias.replace("_as", "", 1)] for alias in aliases)
