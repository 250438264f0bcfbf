import pytest

from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.yaml_files import parse_yaml, read_yaml


def test_reads_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: [1, é]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {x: 1, x: 2}", r"(?s)f.yaml is not valid YAML: 'x' is listed .*line 2"),
        ("[" * 100_000, r"(?s)nested more than 32 levels deep.*line 1"),
        ("a: 2024-99-99", "month must be in 1..12"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("a: \0", "unacceptable character"),
    ],
)
def test_the_error_names_the_place_of_invalid_yaml(text, message):
    with pytest.raises(CheckpointError, match=message):
        parse_yaml(text, "f.yaml", error=CheckpointError)


def test_keys_of_different_types_and_merged_keys_are_not_repeated():
    assert parse_yaml("1: a\n'1': b", "f.yaml") == {1: "a", "1": "b"}
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, b: 2}", "f.yaml")["c"] == {"b": 2}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone.yaml does not exist"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        read_yaml(tmp_path)
