from __future__ import annotations

import pytest

from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.json_files import parse_json, read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "not valid JSON"),
        (b"[1]", "must hold a JSON object, but holds a list"),
        (b"null", "holds a NoneType"),
    ],
)
def test_json_other_than_an_object_is_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.json.*{message}.* Delete it\."):
        read_json(path, error=CheckpointError, hint="Delete it.")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_on_request(number):
    assert parse_json(f"[{number}]", "x") is not None
    with pytest.raises(ConfigError, match="x is not valid JSON: it holds"):
        parse_json(f"[{number}]", "x", finite=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="cannot read"):
        read_json(tmp_path)


def test_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}
