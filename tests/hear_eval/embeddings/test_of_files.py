"""Embedding many files, with the smallest network and random weights."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hear_core.audio.files import find_audio_files
from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError
from hear_eval.embeddings import of_files as embedding
from hear_eval.embeddings.of_files import Recipe, embed
from hear_mn import ZOO, mn01_all_b_mel_avgs

RECIPE = Recipe("hear_mn.mn01_all_b_mel_avgs", options={"pretrained": False})
SIZE = 184

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)


def clip(path, seconds=0.5, rate=32000, channels=1, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate, **options)


@pytest.fixture
def sounds(tmp_path):
    """Twelve clips of several lengths, rates and formats, in two folders."""
    folder = tmp_path / "sounds"
    for i in range(12):
        suffix, rate = (".wav", 32000) if i % 3 else (".flac", 44100)
        clip(folder / f"{'ab'[i % 2]}/{i:02d}{suffix}", 0.2 + 0.1 * i, rate, seed=i)
    return folder


def run(recipe, folder, out, **options):
    """Embed a folder; return the entries that were made now, by file."""
    before, *steps = embed(recipe, find_audio_files([folder]).sources, out, **options)
    assert not steps or steps[-1].left == 0
    assert before.left == sum(len(step.entries) for step in steps)
    return {entry.file: entry for step in steps for entry in step.entries}


def index(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def directly(path, *, timestamps=False):
    model = mn01_all_b_mel_avgs.load_model(pretrained=False)
    audio = read_audio(path, model.sample_rate)[None]
    if timestamps:
        embeddings, times = mn01_all_b_mel_avgs.get_timestamp_embeddings(audio, model)
        return embeddings[0].numpy(), times[0].numpy()
    return mn01_all_b_mel_avgs.get_scene_embeddings(audio, model)[0].numpy(), None


def stored(out, entry, format_):
    """What a format holds for a file, read without this project."""
    path = out / entry.embedding
    if format_ == "npy":
        times = path.with_suffix(".timestamps.npy")
        return np.load(path), np.load(times) if times.exists() else None
    if format_ == "npz":
        arrays = np.load(path)
        return arrays["embeddings"], arrays.get("timestamps")
    from pyarrow import parquet

    rows = [row for row in parquet.read_table(path).to_pylist() if row["file"] == entry.file]
    embeddings = np.array([row["embedding"] for row in rows], np.float32)
    if "timestamp" not in rows[0]:
        return embeddings[0], None
    return embeddings, np.array([row["timestamp"] for row in rows], np.float32)


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
def test_embeddings_are_those_of_the_plugin(sounds, tmp_path, format_, timestamps):
    recipe = RECIPE._replace(format=format_, timestamps=timestamps, joined=5)
    entries = run(recipe, sounds, tmp_path / "out")
    assert len(entries) == 12
    for file, entry in entries.items():
        found, times = stored(tmp_path / "out", entry, format_)
        expected, expected_times = directly(sounds / file, timestamps=timestamps)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
        if timestamps:
            np.testing.assert_array_equal(times, expected_times)
        else:
            assert found.shape == (SIZE,)
            assert times is None


def test_the_index_says_what_became_of_every_file(sounds, tmp_path):
    run(RECIPE, sounds, tmp_path / "out")
    lines = index(tmp_path / "out" / "index.jsonl")
    assert [line["file"] for line in lines] == sorted(line["file"] for line in lines)
    assert lines[0] == {
        "file": "a/00.flac",
        "bytes": (sounds / "a/00.flac").stat().st_size,
        "seconds": 0.2,
        "embedding": "a/00.flac.npy",
        "reason": None,
    }


def test_what_was_done_is_recorded(sounds, tmp_path):
    run(RECIPE, sounds, tmp_path / "out")
    made = json.loads((tmp_path / "out" / "embedding.json").read_text())
    assert made["module"] == "hear_mn.mn01_all_b_mel_avgs"
    assert made["options"] == {"pretrained": False}
    assert len(made["weights"]) == 64


@pytest.fixture
def broken(tmp_path):
    folder = tmp_path / "broken"
    clip(folder / "good.wav")
    clip(folder / "stereo.wav", rate=8000, channels=2)
    clip(folder / "short.wav")
    (folder / "short.wav").write_bytes((folder / "short.wav").read_bytes()[: 44 + 2 * 8000])
    (folder / "header.wav").write_bytes((folder / "good.wav").read_bytes()[:30])
    (folder / "text.wav").write_text("no sound at all")
    (folder / "empty.wav").touch()
    clip(folder / "silent.wav", seconds=0)
    soundfile.write(folder / "nan.wav", np.full(800, np.nan), 32000, subtype="FLOAT")
    (folder / "dangling.wav").symlink_to(folder / "gone.wav")
    return folder


@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
def test_broken_files_are_reported_and_stop_nothing(broken, tmp_path, format_):
    entries = run(RECIPE._replace(format=format_), broken, tmp_path / "out")
    # A wav that ends early is as long as what there is of it.
    seconds = {file: entry.seconds for file, entry in entries.items() if entry.reason is None}
    assert seconds == {"good.wav": 0.5, "stereo.wav": 0.5, "short.wav": 0.25}
    reasons = {file: entry.reason for file, entry in entries.items() if entry.reason}
    assert reasons.keys() == {
        *("header.wav", "text.wav", "empty.wav", "silent.wav", "nan.wav", "dangling.wav")
    }
    assert "cannot be read as audio" in reasons["text.wav"]
    assert "no samples" in reasons["silent.wav"]
    assert "NaN" in reasons["nan.wav"]
    assert "there is no file" in reasons["dangling.wav"]
    for file in ("stereo.wav", "short.wav"):
        found, _ = stored(tmp_path / "out", entries[file], format_)
        np.testing.assert_allclose(found, directly(broken / file)[0], atol=1e-5, rtol=1e-5)
    assert {line["file"]: line["reason"] for line in index(tmp_path / "out" / "index.jsonl")} == {
        file: entry.reason for file, entry in entries.items()
    }


def test_failures_are_tried_again_when_asked_or_when_the_file_changes(broken, tmp_path):
    out = tmp_path / "out"
    run(RECIPE, broken, out)
    assert run(RECIPE, broken, out) == {}
    clip(broken / "empty.wav")
    assert run(RECIPE, broken, out).keys() == {"empty.wav"}
    again = run(RECIPE, broken, out, retry=True)
    assert again.keys() == {"header.wav", "text.wav", "silent.wav", "nan.wav", "dangling.wav"}


def test_a_file_that_became_broken_has_no_embedding_any_more(sounds, tmp_path):
    out = tmp_path / "out"
    run(RECIPE, sounds, out)
    (sounds / "a/00.flac").write_bytes(b"")
    assert run(RECIPE, sounds, out)["a/00.flac"].reason
    assert not (out / "a/00.flac.npy").exists()
    assert len(index(out / "index.jsonl")) == 12


def test_an_output_that_was_deleted_is_made_again(sounds, tmp_path):
    out = tmp_path / "out"
    run(RECIPE, sounds, out)
    whole = contents(out)
    (out / "a/00.flac.npy").unlink()
    assert run(RECIPE, sounds, out).keys() == {"a/00.flac"}
    assert contents(out) == whole


class Killed(BaseException):
    """Stands for the end of the process: nothing here catches it."""


@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize("after", [0, 1, 7, 11])
def test_a_run_that_broke_off_ends_with_the_same_bytes(
    sounds, tmp_path, monkeypatch, format_, after
):
    (sounds / "a/broken.wav").write_bytes(b"")
    recipe = RECIPE._replace(format=format_, timestamps=True, joined=5)
    run(recipe, sounds, tmp_path / "whole")
    out, real, calls = tmp_path / "out", embedding.Plugin.embed, []

    def until(self, audio, **options):
        calls.append(len(audio))
        if len(calls) > after:
            raise Killed
        return real(self, audio, **options)

    with monkeypatch.context() as patch:
        patch.setattr(embedding.Plugin, "embed", until)
        with pytest.raises(Killed):
            run(recipe, sounds, out)
    assert not (out / "index.jsonl").exists()
    with (out / ".index.jsonl.journal").open("a") as journal:
        journal.write('{"file": "a/02.wa')  # a line that was cut off
    again = run(recipe, sounds, out)
    done = after if format_ != "parquet" else after - after % 5
    assert len(again) <= 13 - done
    assert contents(out) == contents(tmp_path / "whole")


def test_shards_are_joined_by_a_run_without(sounds, tmp_path):
    out = tmp_path / "out"
    shares = [run(RECIPE, sounds, out, part=(number, 3)) for number in (1, 2, 3)]
    assert sum(map(len, shares)) == 12
    assert len(set().union(*shares)) == 12
    assert {line["file"] for line in index(out / "index.2-of-3.jsonl")} == shares[1].keys()
    assert run(RECIPE, sounds, out) == {}
    run(RECIPE, sounds, tmp_path / "whole")
    assert (out / "index.jsonl").read_bytes() == (tmp_path / "whole/index.jsonl").read_bytes()


@needs_pyarrow
def test_shards_in_parquet_are_a_table_of_all(sounds, tmp_path):
    from pyarrow import dataset

    recipe = RECIPE._replace(format="parquet", joined=2)
    for number in (1, 2, 3):
        run(recipe, sounds, tmp_path / "out", part=(number, 3))
    files = sorted((tmp_path / "out").glob("*.parquet"))
    table = dataset.dataset(files, format="parquet").to_table()
    assert sorted(table["file"].to_pylist()) == [s.name for s in find_audio_files([sounds]).sources]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "hear_mn.mn01_all_b_avg_time_pool"}, r'module is "hear_mn.mn01_all_b_mel'),
        ({"options": {"pretrained": False, "timestamp_hop": 0.1}}, r"options is .* and .*hop"),
        ({"timestamps": True}, r'embeddings is "scene" there and "timestamps" here'),
        ({"format": "npz"}, r'format is "npy" there and "npz" here'),
    ],
)
def test_other_settings_are_not_mixed_in(sounds, tmp_path, change, message):
    run(RECIPE, sounds, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        run(RECIPE._replace(**change), sounds, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_other_weights_are_not_mixed_in(sounds, tmp_path):
    file = tmp_path / "weights.pt"
    for seed, refused in ((1, False), (2, True)):
        torch.save(ZOO.random_init("mn01_as", seed=seed).state_dict(), file)
        recipe = RECIPE._replace(model_file=str(file), options={})
        if refused:
            with pytest.raises(ConfigError, match=r"weights is"):
                run(recipe, sounds, tmp_path / "out")
        else:
            run(recipe, sounds, tmp_path / "out")


@needs_pyarrow
def test_parts_of_other_files_are_not_mixed_in(sounds, tmp_path):
    recipe = RECIPE._replace(format="parquet")
    run(recipe, sounds, tmp_path / "out")
    clip(sounds / "more.wav")
    with pytest.raises(ConfigError, match=r"files is"):
        run(recipe, sounds, tmp_path / "out")


def test_more_files_are_added(sounds, tmp_path):
    run(RECIPE, sounds, tmp_path / "out")
    clip(sounds / "more.wav")
    assert run(RECIPE, sounds, tmp_path / "out").keys() == {"more.wav"}
    assert len(index(tmp_path / "out" / "index.jsonl")) == 13


def test_two_runs_of_one_shard_at_once_are_refused(sounds, tmp_path):
    sources = find_audio_files([sounds]).sources
    first = embed(RECIPE, sources, tmp_path / "out")
    next(first)
    with pytest.raises(ConfigError, match=r"another process is writing .*index.jsonl"):
        next(embed(RECIPE, sources, tmp_path / "out"))
    assert list(first)[-1].left == 0


@pytest.mark.parametrize(
    ("change", "on", "message"),
    [
        ({"module": "hear_mn.mn1_all_b"}, "local", r"no plug-in module.*did you mean"),
        ({"module": "json"}, "local", r"json is no HEAR plug-in"),
        ({"format": "np"}, "local", r"unknown format 'np'; did you mean 'npz' or 'npy'"),
        ({}, "moon", r"unknown place 'moon'; known: local, ray"),
    ],
)
def test_what_means_nothing_is_explained(tmp_path, change, on, message):
    with pytest.raises(ConfigError, match=message):
        next(embed(RECIPE._replace(**change), [], tmp_path / "out", on=on))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "on", "missing"),
    [({"format": "parquet"}, "local", "pyarrow"), ({}, "ray", "ray")],
)
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, change, on, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        embedding, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(ConfigError, match=rf"needs {missing}: install the extra"):
        next(embed(RECIPE._replace(**change), [], tmp_path / "out", on=on))


def test_any_plugin_will_do(sounds, tmp_path, monkeypatch):
    """One that is no network: loudness, by the API of HEAR alone."""
    callers = set()

    def get_scene_embeddings(audio, model):
        callers.add(threading.get_ident())
        return audio.square().mean(1, keepdim=True).sqrt()

    plugin = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=32000),
        get_scene_embeddings=get_scene_embeddings,
    )
    monkeypatch.setitem(sys.modules, "loudness", plugin)
    entries = run(Recipe("loudness"), sounds, tmp_path / "out")
    for file, entry in entries.items():
        waveform = read_audio(sounds / file, 32000)
        expected = waveform.square().mean().sqrt().item()
        assert np.load(tmp_path / "out" / entry.embedding) == pytest.approx([expected], rel=1e-6)
    assert len(callers) == 1


def test_files_are_read_ahead_but_not_all(sounds, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    real = embedding.read_audio
    monkeypatch.setattr(
        embedding, "read_audio", lambda path, rate: read.append(path) or real(path, rate)
    )
    steps = embed(RECIPE, find_audio_files([sounds]).sources, tmp_path / "out")
    next(steps)
    next(steps)
    assert 1 <= len(read) <= 3
    list(steps)
    assert len(read) == 12


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("format_", ["npy", pytest.param("parquet", marks=needs_pyarrow)])
def test_ray_makes_the_same_files(sounds, tmp_path, monkeypatch, format_):
    import ray

    monkeypatch.setattr(embedding.torch, "get_num_threads", lambda: 1)
    (sounds / "a/broken.wav").write_bytes(b"")
    recipe = RECIPE._replace(
        format=format_, joined=5, options={**RECIPE.options, "engine": "torch"}
    )
    run(recipe, sounds, tmp_path / "local")
    try:
        entries = run(recipe, sounds, tmp_path / "ray", on="ray")
        assert len(entries) == 13
        assert run(recipe, sounds, tmp_path / "ray", on="ray") == {}
        (tmp_path / "ray" / entries["b/01.wav"].embedding).unlink()
        assert "b/01.wav" in run(recipe, sounds, tmp_path / "ray", on="ray")
    finally:
        ray.shutdown()
    ours, theirs = contents(tmp_path / "local"), contents(tmp_path / "ray")
    assert ours.keys() == theirs.keys()
    assert [file for file in ours if ours[file] != theirs[file]] == []
