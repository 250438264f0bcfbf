"""The engines against each other, and the graphs that are kept on disk."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.runtime import engines, graph_cache
from hear_core.runtime.engines import OnnxEngine
from hear_mn import mn01_all_b_mel_avgs as plugin

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def sound(samples, clips=1):
    generator = torch.Generator().manual_seed(samples)
    return 0.5 * (2 * torch.rand(clips, samples, generator=generator) - 1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    return tmp_path / "graphs"


def load(**options):
    return plugin.load_model(pretrained=False, engine="onnx", **options)


@pytest.fixture(scope="module")
def models():
    options = {"pretrained": False, "taps": ["mel_avgs", "b3", "se5", "e1", "logits"]}
    return [plugin.load_model(**options, engine=name) for name in ("torch", "onnx")]


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("samples", [1, 401, 402, 5119, 16001, 320000, 320001])
def test_engines_agree(models, samples, clips):
    audio = sound(samples, clips)
    scenes = [model.get_scene_embeddings(audio) for model in models]
    torch.testing.assert_close(*scenes, rtol=1e-4, atol=1e-4)
    timestamps = [model.get_timestamp_embeddings(audio) for model in models]
    torch.testing.assert_close(*timestamps, rtol=1e-4, atol=1e-4)


def test_engines_agree_on_trained_weights():
    from hear_mn import starter

    audio = sound(160000, 2)
    ours = [starter.load_model(engine=e) for e in ("torch", "onnx")]
    scenes = [model.get_scene_embeddings(audio) for model in ours]
    assert (scenes[0] - scenes[1]).abs().max() < 1e-4 * scenes[0].abs().max()


def test_a_batch_is_its_rows(models):
    audio = sound(20000, 5)
    batch, _ = models[1].get_timestamp_embeddings(audio)
    rows = [models[1].get_timestamp_embeddings(row[None])[0] for row in audio]
    torch.testing.assert_close(batch, torch.cat(rows), atol=1e-5, rtol=1e-5)


def test_auto_is_onnx_on_the_cpu_where_it_is_installed(monkeypatch):
    assert isinstance(plugin.load_model(pretrained=False)._current_engine(), OnnxEngine)
    monkeypatch.setattr("hear_core.plugins.plugin_model.onnx_available", lambda: False)
    assert not isinstance(plugin.load_model(pretrained=False)._current_engine(), OnnxEngine)
    with pytest.raises(ConfigError, match=r"needs onnx and onnxruntime: install the extra 'onnx'"):
        load()


def test_unknown_engine():
    with pytest.raises(ConfigError, match=r"unknown engine 'onxx'; did you mean 'onnx'"):
        plugin.load_model(pretrained=False, engine="onxx")


def test_a_graph_is_made_once(cache, monkeypatch):
    load().get_scene_embeddings(sound(5000))
    (kept,) = cache.iterdir()
    monkeypatch.setattr(engines, "extractor_to_onnx", lambda *_, **__: pytest.fail("made again"))
    load().get_scene_embeddings(sound(5000))
    assert list(cache.iterdir()) == [kept]


def test_of_a_large_network_the_weights_are_read_into_one_session(cache, monkeypatch):
    expected = load().get_timestamp_embeddings(sound(20000, 2))[0]
    monkeypatch.setattr(engines, "_LARGE", 1)
    model = load()
    found, _ = model.get_timestamp_embeddings(sound(20000, 2))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    engine = model._current_engine()
    assert engine.concurrent_batches == 1
    assert engine._graph is engine._sessions.graph is None
    assert "single" not in vars(engine._sessions)
    engine.abandon_sessions()  # as in a process that is forked
    again, _ = model.get_timestamp_embeddings(sound(20000, 2))
    assert torch.equal(again, found)


@pytest.mark.parametrize(
    "options",
    [{"taps": ["b3"]}, {"pooling": "max"}, {"backbone": "mn02_as"}, {"num_classes": 7}],
)
def test_another_model_has_another_graph(cache, options):
    load().get_scene_embeddings(sound(5000))
    load(**options).get_scene_embeddings(sound(5000))
    assert len(list(cache.iterdir())) == 2


def test_other_weights_have_another_graph(cache):
    model = load()
    model.get_scene_embeddings(sound(5000))
    other = copy.deepcopy(model)
    torch.nn.init.ones_(other.extractor.backbone.features[0][1].bias)
    assert not torch.equal(
        other.get_scene_embeddings(sound(5000)), model.get_scene_embeddings(sound(5000))
    )
    assert len(list(cache.iterdir())) == 2


def test_networks_that_differ_in_strides_alone_have_different_graphs(cache):
    for backbone in ("mn10_as_fc", "mn10_as_fc_s2221"):
        load(backbone=backbone, taps=["b15"]).get_scene_embeddings(sound(5000))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:999] + b"?" + b[1000:], lambda b: b""]
)
def test_a_damaged_graph_is_made_again(cache, damage, caplog):
    expected = load().get_scene_embeddings(sound(5000))
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert torch.equal(load().get_scene_embeddings(sound(5000)), expected)
    assert "is damaged and is made again" in caplog.text
    assert kept.read_bytes()[:32] != b""
    caplog.clear()
    load().get_scene_embeddings(sound(5000))
    assert "damaged" not in caplog.text


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path / "file"))
    assert load().get_scene_embeddings(sound(5000)).isfinite().all()
    assert "could not be cached" in caplog.text


def failing(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("hear_core.runtime.graph_cache.cache_folder", RuntimeError("there is no home folder")),
        ("pathlib.Path.touch", OSError(30, "Read-only file system")),
        ("pathlib.Path.write_bytes", OSError(28, "No space left on device")),
        ("pathlib.Path.read_bytes", PermissionError(13, "Permission denied")),
        ("pathlib.Path.mkdir", PermissionError(13, "Permission denied")),
        ("hear_core.runtime.graph_cache.inspect.getfile", TypeError("is a built-in module")),
    ],
)
def test_no_problem_with_the_cache_is_an_error(cache, monkeypatch, place, error):
    expected = load().get_scene_embeddings(sound(5000))
    monkeypatch.setattr(place, failing(error))
    assert torch.equal(load().get_scene_embeddings(sound(5000)), expected)
    for file in cache.iterdir():
        file.unlink()
    assert torch.equal(load().get_scene_embeddings(sound(5000)), expected)


def test_graphs_of_weights_that_change_are_not_cached(cache):
    model = load()
    model.get_scene_embeddings(sound(5000))
    for _ in range(2):
        with torch.no_grad():
            model.extractor.backbone.features[0][0].weight.mul_(1.1)
        model.get_scene_embeddings(sound(5000))
    assert len(list(cache.iterdir())) == 1


def test_the_cache_drops_what_was_not_used_for_longest(cache, monkeypatch):
    load().get_scene_embeddings(sound(5000))
    (first,) = cache.iterdir()
    monkeypatch.setattr(graph_cache, "_MAX_BYTES", int(1.5 * first.stat().st_size))
    load(pooling="max").get_scene_embeddings(sound(5000))
    assert len(list(cache.iterdir())) == 1
    assert not first.exists()


def test_one_model_in_many_threads(models):
    audio = sound(32000, 2)
    expected, _ = models[1].get_timestamp_embeddings(audio)
    found = {}

    def embed(name):
        found[name] = models[1].get_timestamp_embeddings(audio)[0]

    threads = [threading.Thread(target=embed, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[name], expected) for name in range(4))


def test_a_second_process_uses_the_graph_of_the_first(cache):
    code = (
        "import torch, hear_core.runtime.engines as e\n"
        "from hear_mn import mn01_all_b_mel_avgs as p\n"
        "made = []; real = e.extractor_to_onnx\n"
        "e.extractor_to_onnx = lambda *a, **k: made.append(1) or real(*a, **k)\n"
        "m = p.load_model(pretrained=False); m.get_scene_embeddings(torch.zeros(1, 5000))\n"
        "print(len(made))"
    )
    counts = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [count.stdout.strip() for count in counts] == ["1", "0"]


def test_marks_stay_with_their_batches():
    engine = load()._current_engine()
    batches = [(i, np.full((1, 500), i / 10, np.float32)) for i in range(7)]
    found = dict(engine.map(iter(batches)))
    for i, batch in batches:
        ((_, alone),) = engine.map([(i, batch)])
        np.testing.assert_allclose(found[i], alone, atol=1e-6)
