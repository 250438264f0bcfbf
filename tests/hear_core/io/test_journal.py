from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import FileError
from hear_core.io.journal import Journal

ENTRIES = [{"file": "a", "bytes": 1}, ["ä\ud800", 2.5], {"b": 37}]


def test_entries_are_read_as_they_were_appended(tmp_path):
    journal = Journal(tmp_path / "new" / "journal")
    assert journal.read() == []
    with journal.appending() as append:
        append(*ENTRIES[:2])
        assert Journal(journal.path).read() == ENTRIES[:2]
        append(ENTRIES[2])
    assert journal.read() == ENTRIES
    journal.write(ENTRIES[:1])
    assert journal.read() == ENTRIES[:1]
    journal.remove()
    journal.remove()
    assert journal.read() == []


@given(st.integers(0, 60))
def test_an_incomplete_last_line_is_left_out(tmp_path_factory, length):
    journal = Journal(tmp_path_factory.mktemp("j") / "journal")
    journal.append(*ENTRIES)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:length])
    # A line is complete even if its newline is missing.
    complete = (content[:length] + content[length : length + 1]).count(b"\n")
    assert journal.read() == ENTRIES[:complete]
    journal.append(["next"])
    assert journal.read() == [*ENTRIES[:complete], ["next"]]


@pytest.mark.parametrize("damage", [b"\x00\x00\n", b"\xff\n", b"{\n", b"[" * 100_000 + b"\n"])
def test_damaged_lines_are_left_out(tmp_path, caplog, damage):
    journal = Journal(tmp_path / "journal")
    journal.path.write_bytes(b"[1]\n\n" + damage + b"[2]\n")
    assert journal.read() == [[1], [2]]
    assert "journal, line 3, is damaged" in caplog.text


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*journal"):
        Journal(tmp_path / "file" / "journal").append([1])
    with pytest.raises(FileError, match=r"cannot read .*: Is a directory"):
        Journal(tmp_path).read()
