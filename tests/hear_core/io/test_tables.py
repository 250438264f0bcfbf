from __future__ import annotations

import pytest

from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.tables import is_table, read_table

ROWS = [(2, {"file": "a.wav", "label": "dog, barking"}), (4, {"file": "b.wav", "label": "1,5"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_tables_of_all_kinds_read_the_same(tmp_path, delimiter, encoding, newline):
    lines = ["file| label ", 'a.wav|"dog, barking"', "|", 'b.wav|"1,5"|', ""]
    path = tmp_path / "table.CSV"
    path.write_bytes(newline.join(lines).replace("|", delimiter).encode(encoding))
    assert is_table(path)
    assert read_table(path) == ROWS


def test_the_first_row_decides_what_separates_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("file,labels\na.wav,dog;cat;cow\n")
    assert read_table(path) == [(2, {"file": "a.wav", "labels": "dog;cat;cow"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n", r"a\.csv, line 2: 1 cells in 2 columns"),
        (b"a,b\n1,2,3\n", r"a\.csv, line 2: 3 cells in 2 columns"),
        (b"a,a\n1,2\n", r"a\.csv names the column 'a' more than once"),
        (b"a,b\n\xff,2\n", r"a\.csv is not UTF-8"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", r"a\.csv is not a table after line 2"),
    ],
)
def test_files_other_than_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_table(path, error=CheckpointError)


def test_an_empty_table_has_no_rows(tmp_path):
    for content in ("", "\n\n", "a,b\n", "a,b\n,\n"):
        (tmp_path / "a.csv").write_text(content)
        assert read_table(tmp_path / "a.csv") == []
    with pytest.raises(ConfigError, match="cannot read"):
        read_table(tmp_path)
