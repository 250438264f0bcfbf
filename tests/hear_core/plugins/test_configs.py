import os

import pytest

from hear_core.errors import ConfigError
from hear_core.plugins import configs
from hear_core.plugins.configs import EmbeddingConfig, embedding_configs

MINE = "{backbone: mn10_as, taps: [b5], timestamp_hop: 0.025}"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that makes a text the user's own file of embeddings."""

    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setenv("HEAR_CONFIGS", str(tmp_path))

    return write


def test_published_embeddings():
    config = embedding_configs("hear_mn")["mn10_all_b_mel_avgs"]
    assert config == EmbeddingConfig("mn10_as", ("mel_avgs", "all_b"))
    assert config.timestamp_window == 0.16


def test_an_alias_is_the_same_embedding():
    assert embedding_configs("hear_mn")["mn04_as_e1_l"] is embedding_configs("hear_mn")["mn04_e1_l"]


def test_no_embeddings_for_an_unknown_package():
    assert not embedding_configs("nobody")


def test_own_embeddings_are_found_by_qualified_name(own):
    own(f"hear_mn.mine: {MINE}\nhear_mn.mine_too: mine")
    assert embedding_configs("hear_mn")["mine"].timestamp_hop == 0.025
    assert embedding_configs("hear_mn")["mine_too"] is embedding_configs("hear_mn")["mine"]
    assert "mn04_e1_l" in embedding_configs("hear_mn")


def test_own_embeddings_are_found_by_the_name_of_the_file(own):
    own(f"mine: {MINE}", name="hear_mn.birds.yaml")
    assert "mine" in embedding_configs("hear_mn")


def test_own_embeddings_can_be_added_by_an_argument(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_CONFIGS", "")
    (tmp_path / "hear_mn.yaml").write_text(f"mine: {MINE}")
    configs.add_embedding_config(tmp_path / "hear_mn.yaml")
    assert "mine" in embedding_configs("hear_mn")
    assert str(tmp_path) in os.environ["HEAR_CONFIGS"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hear_mn.x: {backbone: mn10_as}", r"mine.yaml: hear_mn.x: taps must be given"),
        ("hear_mn.x: {backbone: 3, taps: [e1]}", r"backbone must be a string, not 3"),
        ("hear_mn.x: {backbone: a, taps: e1}", r"taps must be a list of tap names, not 'e1'"),
        ("hear_mn.x: {backbone: a, taps: []}", r"taps must be a list of tap names, not \[\]"),
        ("hear_mn.x: {backbone: a, tap: [e1]}", r"unknown option 'tap'; did you mean 'taps'"),
        (
            "hear_mn.x: {backbone: a, taps: [e1], timestamp_hop: 500}",
            r"timestamp_hop must be a number from 0.001 to 60 seconds, not 500",
        ),
        ("hear_mn.x: {backbone: a, taps: [e1], scene_hop: 0}", r"scene_hop must be"),
        ("hear_mn.x: [e1]", r"must be a mapping"),
        ("hear_mn.x: y", r"unknown embedding 'y'"),
        ("hear_mn.mn04_e1_l: {backbone: a, taps: [e1]}", r"there is already .* hear_mn.mn04_e1_l"),
        (f"hear_mn.x: {MINE}\nhear_mn.x: {MINE}", r"'hear_mn.x' is listed more than once.*line 2"),
        ("hear_mn.x: {backbone: a", r"mine.yaml is not valid YAML: .*line 1"),
        (f"x: {MINE}", r"mine.yaml: x: unknown plug-in package 'mine'; known: hear_mn"),
        (f"hear_nm.x: {MINE}", r"unknown plug-in package 'hear_nm'; did you mean 'hear_mn'"),
        ("- hear_mn.x", r"must map names to embeddings"),
        ("hear_mn.x: {backbone: a, taps: [e1], scene_hop: .nan}", r"scene_hop must be .*not nan"),
        ("hear_mn.x: {backbone: a, taps: [e1], scene_window: .inf}", r"scene_window .*not inf"),
        ("hear_mn.x: {backbone: a, taps: [e1], timestamp_hop: -1}", r"timestamp_hop .*not -1"),
        (
            "hear_mn.x: {backbone: a, taps: [e1], timestamp_hop: 1.0e-12}",
            r"not 1e-12",
        ),
        ("hear_mn.x: {backbone: a, taps: [e1], timestamp_hop: yes}", r"timestamp_hop .*not True"),
        ("hear_mn.x: {backbone: a, taps: [e1], scene_hop: 10.0e+99999}", r"scene_hop must be"),
        ("[" * 100_000, r"nested more than 32 levels deep.*line 1"),
        ("- " * 30_000 + "x", r"nested more than 32 levels deep"),
        ("hear_mn.x: 2024-99-99", r"is not valid YAML: month must be in 1..12"),
        ("hear_mn.x: " + "9" * 5000, r"is not valid YAML"),
        ("hear_mn.x: \0", r"is not valid YAML: .*position 11"),
        ("? [1]\n: 2", r"found unhashable key"),
        ("hear_mn.x: !!python/object:os.system {}", r"could not determine a constructor"),
        ("hear_mn.x: &a [*a]", r"found unconstructable recursive node"),
    ],
)
def test_the_error_names_the_file_and_the_problem(own, text, message):
    own(text)
    with pytest.raises(ConfigError, match=r"(?s)" + message):
        embedding_configs("hear_mn")


def test_a_listed_file_must_exist(monkeypatch):
    monkeypatch.setenv("HEAR_CONFIGS", "/nowhere/mine.yaml")
    with pytest.raises(ConfigError, match=r"/nowhere/mine.yaml, which does not exist"):
        embedding_configs("hear_mn")


def test_override():
    config = EmbeddingConfig("a", ("e1",)).override(taps=["logits"], scene_hop=1)
    assert config == EmbeddingConfig("a", ("logits",), scene_hop=1)
    with pytest.raises(ConfigError, match=r"unknown option 'hop'"):
        config.override(hop=1)


def test_a_file_that_is_not_text_is_named(tmp_path, monkeypatch):
    (tmp_path / "hear_mn.yaml").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("HEAR_CONFIGS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"hear_mn.yaml: it is not UTF-8"):
        embedding_configs("hear_mn")


def test_a_home_folder_is_not_needed(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    monkeypatch.setenv("HEAR_CONFIGS", "~/mine.yaml")
    with pytest.raises(ConfigError, match=r"lists ~/mine.yaml, which does not exist"):
        embedding_configs("hear_mn")
