"""Embedding many files, with the smallest network and random weights."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import itertools
import json
import os
import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hear_core.audio.files import find_audio_files
from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError, ConfigError, FileError
from hear_eval.embeddings import files as embedding
from hear_eval.embeddings import formats, local
from hear_eval.embeddings.files import embed_files
from hear_eval.embeddings.units import EmbeddingOptions
from hear_mn import ZOO, mn01_all_b_mel_avgs

OPTIONS = EmbeddingOptions("hear_mn.mn01_all_b_mel_avgs", options={"pretrained": False})
SIZE = 184

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)


def clip(path, seconds=0.5, rate=32000, channels=1, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    whole, path = path, path.with_name(f"written{path.suffix}")
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate, **options)
    path.rename(whole)  # soundfile cannot write to every name


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
    before, *steps = embed_files(recipe, find_audio_files([folder]).sources, out, **options)
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
    """Return the stored embedding and timestamps of a file, read without this project."""
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
    recipe = OPTIONS._replace(format=format_, timestamps=timestamps, joined=5)
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


def test_the_index_has_the_outcome_of_every_file(sounds, tmp_path):
    run(OPTIONS, sounds, tmp_path / "out")
    lines = index(tmp_path / "out" / "index.jsonl")
    assert [line["file"] for line in lines] == sorted(line["file"] for line in lines)
    assert lines[0] == {
        "file": "a/00.flac",
        "bytes": (sounds / "a/00.flac").stat().st_size,
        "sha256": hashlib.sha256((sounds / "a/00.flac").read_bytes()).hexdigest(),
        "seconds": 0.2,
        "embedding": "a/00.flac.npy",
        "reason": None,
    }


def test_the_settings_are_recorded(sounds, tmp_path):
    run(OPTIONS, sounds, tmp_path / "out")
    made = json.loads((tmp_path / "out" / "embedding.json").read_text())
    assert made["config"]["backbone"] == "mn01_as"
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
def test_broken_files_are_reported_and_do_not_stop_the_others(broken, tmp_path, format_):
    entries = run(OPTIONS._replace(format=format_), broken, tmp_path / "out")
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
    assert "does not exist" in reasons["dangling.wav"]
    for file in ("stereo.wav", "short.wav"):
        found, _ = stored(tmp_path / "out", entries[file], format_)
        np.testing.assert_allclose(found, directly(broken / file)[0], atol=1e-5, rtol=1e-5)
    prefix = "_" if format_ == "parquet" else ""
    path = tmp_path / "out" / f"{prefix}index.jsonl"
    assert {line["file"]: line["reason"] for line in index(path)} == {
        file: entry.reason for file, entry in entries.items()
    }


def test_failures_are_repeated_on_request_or_when_the_file_changes(broken, tmp_path):
    out = tmp_path / "out"
    run(OPTIONS, broken, out)
    assert run(OPTIONS, broken, out) == {}
    clip(broken / "empty.wav")
    assert run(OPTIONS, broken, out).keys() == {"empty.wav"}
    again = run(OPTIONS, broken, out, retry=True)
    assert again.keys() == {"header.wav", "text.wav", "silent.wav", "nan.wav", "dangling.wav"}


def test_the_embedding_of_a_file_that_became_broken_is_removed(sounds, tmp_path):
    out = tmp_path / "out"
    run(OPTIONS, sounds, out)
    (sounds / "a/00.flac").write_bytes(b"")
    assert run(OPTIONS, sounds, out)["a/00.flac"].reason
    assert not (out / "a/00.flac.npy").exists()
    assert len(index(out / "index.jsonl")) == 12


def test_an_output_that_was_deleted_is_made_again(sounds, tmp_path):
    out = tmp_path / "out"
    run(OPTIONS, sounds, out)
    whole = contents(out)
    (out / "a/00.flac.npy").unlink()
    assert run(OPTIONS, sounds, out).keys() == {"a/00.flac"}
    assert contents(out) == whole


class Killed(BaseException):
    """An exception in place of the end of the process, which no code catches."""


@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize("after", [0, 1, 7, 11])
def test_an_interrupted_run_ends_with_the_same_bytes(sounds, tmp_path, monkeypatch, format_, after):
    (sounds / "a/broken.wav").write_bytes(b"")
    recipe = OPTIONS._replace(format=format_, timestamps=True, joined=5)
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
    prefix = "_" if format_ == "parquet" else ""
    assert not (out / f"{prefix}index.jsonl").exists()
    with (out / f".{prefix}index.jsonl.journal").open("a") as journal:
        journal.write('{"file": "a/02.wa')  # an incomplete line
    (out / f".{prefix}index.jsonl.{12 * 'a'}.part").touch()
    (out / f".part-00000.parquet.{12 * 'a'}.part").touch()
    (out / "a").mkdir(exist_ok=True)
    (out / f"a/.02.wav.npz.{12 * 'a'}.part").touch()
    (out / f"a/.02.wav.timestamps.npy.{12 * 'a'}.part").touch()
    for other in {"npy", "npz", "parquet"} - {format_}:
        for path in out.rglob(f"*.{other}.*.part"):
            path.unlink()
    again = run(recipe, sounds, out)
    done = after if format_ != "parquet" else after - after % 5
    assert len(again) <= 13 - done
    assert contents(out) == contents(tmp_path / "whole")


def test_shards_are_joined_by_a_run_without(sounds, tmp_path):
    out = tmp_path / "out"
    shares = [run(OPTIONS, sounds, out, shard=(number, 3)) for number in (1, 2, 3)]
    assert sum(map(len, shares)) == 12
    assert len(set().union(*shares)) == 12
    assert {line["file"] for line in index(out / "index.2-of-3.jsonl")} == shares[1].keys()
    assert run(OPTIONS, sounds, out) == {}
    run(OPTIONS, sounds, tmp_path / "whole")
    assert (out / "index.jsonl").read_bytes() == (tmp_path / "whole/index.jsonl").read_bytes()


@needs_pyarrow
def test_shards_in_parquet_are_a_table_of_all(sounds, tmp_path):
    from pyarrow import dataset

    recipe = OPTIONS._replace(format="parquet", joined=2)
    for number in (1, 2, 3):
        run(recipe, sounds, tmp_path / "out", shard=(number, 3))
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
    run(OPTIONS, sounds, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        run(OPTIONS._replace(**change), sounds, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_other_weights_are_not_mixed_in(sounds, tmp_path):
    file = tmp_path / "weights.pt"
    for seed, refused in ((1, False), (2, True)):
        torch.save(ZOO.random_init("mn01_as", seed=seed).state_dict(), file)
        recipe = OPTIONS._replace(model_file=str(file), options={})
        if refused:
            with pytest.raises(ConfigError, match=r"weights is"):
                run(recipe, sounds, tmp_path / "out")
        else:
            run(recipe, sounds, tmp_path / "out")


@needs_pyarrow
def test_parts_of_other_files_are_not_mixed_in(sounds, tmp_path):
    recipe = OPTIONS._replace(format="parquet")
    run(recipe, sounds, tmp_path / "out")
    clip(sounds / "more.wav")
    with pytest.raises(ConfigError, match=r"files is"):
        run(recipe, sounds, tmp_path / "out")


def test_a_file_whose_content_changes_is_embedded_again(sounds, tmp_path):
    """The file is read again, even if its size and modification time are the same."""
    out, file = tmp_path / "out", sounds / "b/01.wav"
    run(OPTIONS, sounds, out)
    state, before = file.stat(), np.load(out / "b/01.wav.npy")
    content = bytearray(file.read_bytes())
    content[1000:2000] = bytes(1000)
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    assert run(OPTIONS, sounds, out).keys() == {"b/01.wav"}
    assert not np.array_equal(np.load(out / "b/01.wav.npy"), before)


def test_an_index_without_checksums_is_kept(sounds, tmp_path):
    out = tmp_path / "out"
    run(OPTIONS, sounds, out)
    path = out / "index.jsonl"
    older = [{k: v for k, v in line.items() if k != "sha256"} for line in index(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    assert run(OPTIONS, sounds, out) == {}


@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK" + bytes(500)),
    ],
)
def test_a_damaged_output_is_made_again(sounds, tmp_path, format_, damage):
    out, options = tmp_path / "out", OPTIONS._replace(format=format_, joined=5, timestamps=True)
    run(options, sounds, out)
    whole = contents(out)
    name = "part-00001.parquet" if format_ == "parquet" else f"a/02.wav.{format_}"
    damage(out / name)
    assert len(run(options, sounds, out)) == (5 if format_ == "parquet" else 1)
    assert contents(out) == whole
    if format_ == "npy":
        damage(out / "a/02.wav.timestamps.npy")
        assert run(options, sounds, out).keys() == {"a/02.wav"}
        assert contents(out) == whole


@needs_pyarrow
@pytest.mark.parametrize("timestamps", [False, True])
def test_a_folder_of_parquet_is_read_as_one_table(sounds, tmp_path, timestamps):
    pandas = pytest.importorskip("pandas")
    options = OPTIONS._replace(format="parquet", joined=5, timestamps=timestamps)
    run(options, sounds, tmp_path / "out")
    table = pandas.read_parquet(tmp_path / "out")
    assert set(table["file"]) == {source.name for source in find_audio_files([sounds]).sources}


@needs_pyarrow
def test_a_folder_of_parquet_with_the_older_names_is_resumed(sounds, tmp_path):
    out, options = tmp_path / "out", OPTIONS._replace(format="parquet", joined=5)
    run(options, sounds, out)
    whole = contents(out)
    for name in ("index.jsonl", "embedding.json"):
        (out / f"_{name}").rename(out / name)
    assert run(options, sounds, out) == {}
    assert contents(out).items() >= whole.items()


def test_names_of_any_length_and_encoding_are_embedded(tmp_path):
    folder, out = tmp_path / "sounds", tmp_path / "out"
    stem = 246 * "x"
    names = [f"{stem}1.wav", f"{stem}2.wav", os.fsdecode(b"caf\xe9.wav"), "a'\n\".wav"]
    for seed, name in enumerate(names):
        clip(folder / name, seed=seed)
    for format_ in ("npy", "npz"):
        entries = run(OPTIONS._replace(format=format_), folder, out / format_)
        assert entries.keys() == set(names)
        found = {
            np.load(out / format_ / entry.embedding)["embeddings"].tobytes()
            if format_ == "npz"
            else np.load(out / format_ / entry.embedding).tobytes()
            for entry in entries.values()
        }
        assert len(found) == 4
        assert run(OPTIONS._replace(format=format_), folder, out / format_) == {}


@needs_pyarrow
def test_a_name_that_is_not_text_is_escaped_in_parquet(tmp_path):
    from pyarrow import parquet

    clip(tmp_path / "sounds" / os.fsdecode(b"caf\xe9.wav"))
    run(OPTIONS._replace(format="parquet"), tmp_path / "sounds", tmp_path / "out")
    table = parquet.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table["file"].to_pylist() == ["caf\\xe9.wav"]


@pytest.mark.parametrize(
    ("found", "timestamps", "reason"),
    [
        (torch.full((1, 4), torch.nan), False, "contains NaN or infinite values"),
        (torch.zeros(4), False, r"have the shape \(4,\)"),
        (torch.zeros(1, 0), False, r"have the shape \(1, 0\)"),
        (None, False, r"have the shape \(\)"),
        ("text", False, "could not convert string"),
        (None, True, "fails on a.wav"),
        ((torch.zeros(1, 2, 4), None), True, "timestamps of the type object"),
        ((torch.zeros(1, 2, 4), torch.zeros(1, 3)), True, r"timestamps have the shape \(1, 3\)"),
        ((torch.zeros(1, 2, 4), torch.full((1, 2), torch.inf)), True, "NaN or infinite"),
    ],
)
def test_what_a_plugin_returns_is_checked(tmp_path, monkeypatch, found, timestamps, reason):
    clip(tmp_path / "sounds" / "a.wav")
    plugin = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=32000),
        get_scene_embeddings=lambda audio, model: found,
        get_timestamp_embeddings=lambda audio, model: found,
    )
    monkeypatch.setitem(sys.modules, "broken_plugin", plugin)
    options = EmbeddingOptions("broken_plugin", timestamps=timestamps)
    (entry,) = run(options, tmp_path / "sounds", tmp_path / "out").values()
    assert entry.embedding is None
    assert re.search(reason, entry.reason)
    assert not list((tmp_path / "out").glob("*.npy"))


@pytest.mark.parametrize(
    "line",
    [
        {"file": "a/00.flac", "bytes": 1, "embedding": "../../../etc/passwd"},
        {"file": "a/00.flac", "bytes": 1, "embedding": "/etc/passwd"},
        {"file": "a/00.flac", "bytes": 1, "embedding": "a\0.npy"},
        {"file": 5, "bytes": 1},
        {"file": "a/00.flac", "bytes": "1"},
        {"file": "a/00.flac", "more": 1},
        {"bytes": 1},
        ["a/00.flac"],
        None,
    ],
)
def test_an_invalid_index_is_named(sounds, tmp_path, line):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=r"index\.jsonl, line 1: .* Delete this file"):
        run(OPTIONS, sounds, out)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_settings_are_named(sounds, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "embedding.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"embedding\.json .* to start over"):
        run(OPTIONS, sounds, tmp_path / "out")


@pytest.mark.parametrize("options", [{"shard": (0, 1)}, {"shard": (3, 2)}])
def test_a_shard_that_does_not_exist_is_refused(sounds, tmp_path, options):
    with pytest.raises(ConfigError, match="number of a shard must be"):
        run(OPTIONS, sounds, tmp_path / "out", **options)


def test_a_full_disk_is_reported_and_keeps_finished_work(sounds, tmp_path, monkeypatch):
    out, real, calls = tmp_path / "out", formats.write_npy, []

    def save(file, array):
        calls.append(array)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, array)

    with monkeypatch.context() as patch:
        patch.setattr(formats, "write_npy", save)
        with pytest.raises(FileError, match=r"cannot write .*\.npy: No space left on device"):
            run(OPTIONS, sounds, out)
    assert len(list(out.rglob("*.npy"))) == 5
    assert not list(out.rglob("*.part"))
    assert len(run(OPTIONS, sounds, out)) == 7
    run(OPTIONS, sounds, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_more_files_are_added(sounds, tmp_path):
    run(OPTIONS, sounds, tmp_path / "out")
    clip(sounds / "more.wav")
    assert run(OPTIONS, sounds, tmp_path / "out").keys() == {"more.wav"}
    assert len(index(tmp_path / "out" / "index.jsonl")) == 13


def test_two_runs_of_one_shard_at_once_are_refused(sounds, tmp_path):
    sources = find_audio_files([sounds]).sources
    first = embed_files(OPTIONS, sources, tmp_path / "out")
    next(first)
    with pytest.raises(ConfigError, match=r"another process is writing .*index.jsonl"):
        next(embed_files(OPTIONS, sources, tmp_path / "out"))
    assert list(first)[-1].left == 0


@pytest.mark.parametrize(
    ("change", "on", "message"),
    [
        ({"module": "hear_mn.mn1_all_b"}, "local", r"no plug-in module.*did you mean"),
        ({"module": "json"}, "local", r"json is not a HEAR plug-in"),
        ({"format": "np"}, "local", r"unknown format 'np'; did you mean 'npz' or 'npy'"),
        ({}, "moon", r"unknown backend 'moon'; known: local, ray"),
    ],
)
def test_invalid_options_are_explained(tmp_path, change, on, message):
    with pytest.raises(ConfigError, match=message):
        next(embed_files(OPTIONS._replace(**change), [], tmp_path / "out", backend=on))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "on", "missing"),
    [({"format": "parquet"}, "local", "pyarrow"), ({}, "ray", "ray")],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, change, on, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        embedding, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(ConfigError, match=rf"needs {missing}: install the extra"):
        next(embed_files(OPTIONS._replace(**change), [], tmp_path / "out", backend=on))


def test_any_plugin_can_be_used(sounds, tmp_path, monkeypatch):
    """A plug-in without a network: loudness, with the HEAR API only."""
    callers = set()

    def get_scene_embeddings(audio, model):
        callers.add(threading.get_ident())
        return audio.square().mean(1, keepdim=True).sqrt()

    plugin = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=32000),
        get_scene_embeddings=get_scene_embeddings,
    )
    monkeypatch.setitem(sys.modules, "loudness", plugin)
    entries = run(EmbeddingOptions("loudness"), sounds, tmp_path / "out")
    for file, entry in entries.items():
        waveform = read_audio(sounds / file, 32000)
        expected = waveform.square().mean().sqrt().item()
        assert np.load(tmp_path / "out" / entry.embedding) == pytest.approx([expected], rel=1e-6)
    assert len(callers) == 1


@pytest.fixture
def short_is_long(monkeypatch):
    """Let recordings from half a second on be long, and return the number of blocks read."""
    blocks = []

    def read_blocks(path, rate):
        for block in real(path, rate, 5000):
            blocks.append(block)
            yield block

    real = local.read_blocks
    monkeypatch.setattr(local, "_LONG", 0.5)
    monkeypatch.setattr(local, "read_blocks", read_blocks)
    return blocks


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("format_", ["npy", "npz", pytest.param("parquet", marks=needs_pyarrow)])
def test_long_recordings_are_embedded_in_blocks(
    sounds, tmp_path, short_is_long, format_, timestamps
):
    recipe = OPTIONS._replace(format=format_, timestamps=timestamps)
    entries = run(recipe, sounds, tmp_path / "out")
    assert len(short_is_long) > len(entries) == 12
    for file, entry in entries.items():
        found, times = stored(tmp_path / "out", entry, format_)
        expected, expected_times = directly(sounds / file, timestamps=timestamps)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(times, expected_times)
        assert entry.seconds == len(read_audio(sounds / file, 32000)) / 32000


def test_a_long_recording_that_cannot_be_read_to_its_end_is_reported(
    tmp_path, short_is_long, monkeypatch
):
    real = local.read_blocks

    def broken(path, rate):
        yield from itertools.islice(real(path, rate), 5)
        msg = "the rest is missing"
        raise AudioError(msg)

    monkeypatch.setattr(local, "read_blocks", broken)
    clip(tmp_path / "sounds/a.wav", 2.0)
    (entry,) = run(OPTIONS, tmp_path / "sounds", tmp_path / "out").values()
    assert (entry.reason, entry.embedding) == ("the rest is missing", None)


def test_a_plugin_without_blocks_gets_long_recordings_whole(
    sounds, tmp_path, monkeypatch, short_is_long
):
    plugin = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=32000),
        get_scene_embeddings=lambda audio, model: audio[:, -1:] * 0 + audio.shape[1],
    )
    monkeypatch.setitem(sys.modules, "counting", plugin)
    for entry in run(EmbeddingOptions("counting"), sounds, tmp_path / "out").values():
        assert np.load(tmp_path / "out" / entry.embedding) == [entry.seconds * 32000]
    assert not short_is_long


def test_a_bounded_number_of_files_is_prefetched(sounds, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    real = local.read_if_short
    monkeypatch.setattr(
        local, "read_if_short", lambda path, *args: read.append(path) or real(path, *args)
    )
    steps = embed_files(OPTIONS, find_audio_files([sounds]).sources, tmp_path / "out")
    next(steps)
    next(steps)
    assert 1 <= len(read) <= 3
    list(steps)
    assert len(read) == 12


def test_a_long_recording_leaves_no_rows_behind_when_it_fails(tmp_path, short_is_long, monkeypatch):
    """A plug-in that stops after some rows, whose size changes, or that gives none."""

    def stops(blocks, model):
        yield torch.zeros(3, 4), torch.arange(3.0)
        msg = "no more"
        raise RuntimeError(msg)

    def changes(blocks, model):
        yield torch.zeros(3, 4), torch.arange(3.0)
        yield torch.zeros(3, 5), torch.arange(3.0)

    def none(blocks, model):
        yield from ()

    clip(tmp_path / "sounds/a.wav", 2.0)
    for function, reason in {
        stops: "no more",
        changes: r"shape \(5,\)",
        none: "gives no emb",
    }.items():
        plugin = SimpleNamespace(
            load_model=lambda model_file_path="": SimpleNamespace(sample_rate=32000),
            embed_scene_blocks=function,
            embed_timestamp_blocks=function,
        )
        monkeypatch.setitem(sys.modules, "stopping", plugin)
        out = tmp_path / function.__name__
        (entry,) = run(
            EmbeddingOptions("stopping", timestamps=True), tmp_path / "sounds", out
        ).values()
        assert re.search(reason, entry.reason)
        assert entry.embedding is None
        assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
            "embedding.json",
            "index.jsonl",
        }


def test_a_compressed_file_of_few_bytes_is_read_in_blocks_if_it_is_long(tmp_path, monkeypatch):
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.flac", np.zeros(400 * 8000), 8000)
    assert (tmp_path / "sounds/a.flac").stat().st_size < 100_000
    taken = []

    def loudness(blocks, model):
        taken.extend(len(block) for block in blocks)
        return torch.zeros(1)

    plugin = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=8000),
        embed_scene_blocks=loudness,
        embed_timestamp_blocks=loudness,
    )
    monkeypatch.setitem(sys.modules, "loudness", plugin)
    (entry,) = run(EmbeddingOptions("loudness"), tmp_path / "sounds", tmp_path / "out").values()
    assert entry.seconds == 400
    assert len(taken) > 1


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("format_", ["npy", pytest.param("parquet", marks=needs_pyarrow)])
def test_ray_makes_the_same_files(sounds, tmp_path, monkeypatch, format_):
    import ray

    monkeypatch.setattr(local.torch, "get_num_threads", lambda: 1)
    (sounds / "a/broken.wav").write_bytes(b"")
    recipe = OPTIONS._replace(
        format=format_, joined=5, options={**OPTIONS.options, "engine": "torch"}
    )
    run(recipe, sounds, tmp_path / "local")
    try:
        entries = run(recipe, sounds, tmp_path / "ray", backend="ray")
        assert len(entries) == 13
        assert run(recipe, sounds, tmp_path / "ray", backend="ray") == {}
        (tmp_path / "ray" / entries["b/01.wav"].embedding).unlink()
        assert "b/01.wav" in run(recipe, sounds, tmp_path / "ray", backend="ray")
    finally:
        ray.shutdown()
    ours, theirs = contents(tmp_path / "local"), contents(tmp_path / "ray")
    assert ours.keys() == theirs.keys()
    assert [file for file in ours if ours[file] != theirs[file]] == []
