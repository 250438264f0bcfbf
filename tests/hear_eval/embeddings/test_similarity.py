from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from hear_cli.sounds import siren
from hear_core.errors import ConfigError
from hear_eval.embeddings import similarity
from hear_eval.embeddings.similarity import EmbeddingTable, most_similar, open_embeddings
from tests.hear_cli.command import hear


def table(vectors, file, size=1.0):
    onset = size * np.arange(len(vectors))
    names = [f"{index}.wav" for index in range(max(file) + 1)]
    unit = similarity._unit(np.asarray(vectors, np.float32))
    return EmbeddingTable(names, np.array(file), onset, onset + size, unit, {})


def test_the_most_similar_rows_come_first(monkeypatch):
    monkeypatch.setattr(similarity, "_AT_ONCE", 100)
    random = np.random.default_rng(0)
    vectors, query = random.normal(size=(5000, 8)), random.normal(size=(1, 8))
    found = most_similar(table(vectors, range(5000)), query, query[:0], 4500)
    cosine = vectors @ query[0] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    assert [row.file for row in found] == [f"{i}.wav" for i in np.argsort(-cosine)[:4500]]
    np.testing.assert_allclose(
        [row.score for row in found], np.sort(-cosine)[:4500] * -1, atol=2e-6
    )


def test_moments_that_follow_one_another_are_one_result():
    vectors = [[1, 0], [1, 0.1], [0, 1], [1, 0.2], [1, 0.3]]
    found = most_similar(table(vectors, [0, 0, 0, 0, 1]), np.array([[1, 0]]), np.zeros((0, 2)), 3)
    assert [(row.file, row.onset, row.offset) for row in found] == [
        ("0.wav", 0, 1),
        ("0.wav", 3, 4),
        ("1.wav", 4, 5),
    ]


def test_examples_that_are_not_wanted_push_away():
    vectors, like = [[1, 0, 1], [1, 1, 0]], np.array([[1, 0.1, 0.2]])
    plain = most_similar(table(vectors, [0, 1]), like, like[:0], 1)
    pushed = most_similar(table(vectors, [0, 1]), like, np.array([[0, 0, 1]]), 1)
    assert (plain[0].file, pushed[0].file) == ("0.wav", "1.wav")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64000)
    soundfile.write(folder / "noise.wav", noise, 32000)
    soundfile.write(folder / "hiss.wav", 0.5 * noise[::-1], 32000)
    soundfile.write(folder / "siren.wav", siren(2.0, 32000).numpy(), 32000)
    return folder


@pytest.mark.parametrize(
    "options", [[], ["--format", "npz"], ["--format", "parquet"], ["--timestamps"]]
)
def test_embeddings_of_every_format_are_searched(recordings, tmp_path, options):
    if "parquet" in options:
        pytest.importorskip("pyarrow")
    hear("embed", "starter", recordings, "-o", tmp_path / "e", *options)
    command = ["similar", recordings / "noise.wav", tmp_path / "e", "--format", "json"]
    first = json.loads(hear(*command, "--top", 3))
    assert first[0]["file"] in ("noise.wav", "hiss.wav")
    if "--timestamps" not in options:
        assert [row["file"] for row in first] == ["noise.wav", "hiss.wav", "siren.wav"]
        assert first[0]["score"] == pytest.approx(1, abs=1e-4)
        assert (first[0]["onset"], first[0]["offset"]) == (0, 2)
    assert (tmp_path / "e" / ".similar.npy").is_file()
    assert json.loads(hear(*command, "--top", 3)) == first


def test_a_folder_without_embeddings_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not hold embeddings"):
        open_embeddings(tmp_path)


def test_a_query_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="has 3 values, and the embeddings 2"):
        most_similar(table([[1, 0]], [0]), np.ones((1, 3)), np.zeros((0, 3)), 1)


@pytest.mark.parametrize("content", ["[]", "{}", "x", None])
def test_a_damaged_cache_is_made_again(recordings, tmp_path, content):
    hear("embed", "starter", recordings, "-o", tmp_path / "e")
    command = ["similar", recordings / "noise.wav", tmp_path / "e", "--format", "json"]
    first = hear(*command)
    damaged = tmp_path / "e" / (".similar.npy" if content is None else ".similar.json")
    good = damaged.read_bytes()
    damaged.write_bytes(good[:100] if content is None else content.encode())
    assert hear(*command) == first
    assert damaged.read_bytes() == good


def test_a_damaged_embedding_is_named(recordings, tmp_path):
    hear("embed", "starter", recordings, "-o", tmp_path / "e")
    (tmp_path / "e" / "noise.wav.npy").write_text("bad")
    message = hear("similar", recordings / "noise.wav", tmp_path / "e", code=1)
    assert "noise.wav.npy is damaged; run 'hear embed' again" in message


def test_a_track_of_several_recordings_is_refused(recordings, tmp_path):
    hear("embed", "starter", recordings, "-o", tmp_path / "e")
    command = ["similar", recordings / "noise.wav", tmp_path / "e", "--format", "audacity"]
    assert "of one recording" in hear(*command, code=2)
    assert hear(*command, "--top", 1).endswith("similar\n")


def test_a_module_that_a_settings_file_names_is_not_run(tmp_path, monkeypatch, recordings):
    hear("embed", "starter", recordings, "-o", tmp_path / "out")
    settings = tmp_path / "out" / "embedding.json"
    content = json.loads(settings.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other_code.py").write_text("raise SystemExit('it was run')")
    settings.write_text(json.dumps({**content, "module": "other_code"}))
    query = recordings / "siren.wav"
    said = hear("similar", query, tmp_path / "out", code=1)
    assert "HEAR_TRUSTED_MODULES=other_code" in said
    for damaged in ({}, {"module": 5}):
        settings.write_text(json.dumps(damaged))
        said = hear("similar", query, tmp_path / "out", code=1)
        assert "embedding.json does not name the module of the embeddings" in said
