from __future__ import annotations

import os
import pickle

import pytest

from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.pickles import read_pickle


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made",)


def test_plain_values_are_read(tmp_path):
    value = {"a": [1, 2.5, "x", None, True, b"y", (1,)]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    assert read_pickle(tmp_path / "a.pkl", "values") == value


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Runs()]))
    with pytest.raises(
        CheckpointError, match=r"a\.pkl is not a pickle of labels: it names .*mkdir"
    ):
        read_pickle(tmp_path / "a.pkl", "labels", error=CheckpointError)
    assert names(tmp_path) == ["a.pkl"]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x05", pickle.dumps([1])[:-1]])
def test_damage_is_reported(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.pkl is not a pickle of labels"):
        read_pickle(tmp_path / "a.pkl", "labels")
