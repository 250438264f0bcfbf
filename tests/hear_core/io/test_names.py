from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.names import check_name, shortened

BAD = ["", " ", ".", "..", "../x", "a/../b", "/a", "a//b", "a/", "a\0b", "a\nb", "C:x", "C:\\x"]
BAD += ["..\\x", "\\\\server\\share", "x" * 256, "ä" * 128, "/".join(["x" * 200] * 30), None, 3]


@pytest.mark.parametrize("name", BAD)
def test_names_that_leave_their_folder_or_cannot_be_made_are_refused(name):
    for folders in (False, True):
        with pytest.raises(ConfigError, match=r"^split .* cannot be used as a file name: it "):
            check_name(name, "split", folders=folders)


def test_good_names_are_returned():
    for name in ("fold01", "a b.wav", "...", "ä" * 127, ".hidden", "-x", "con"):
        assert check_name(name) == name
    assert check_name("a/b.wav", folders=True) == "a/b.wav"
    with pytest.raises(ConfigError, match="contains '/'"):
        check_name("a/b.wav")
    with pytest.raises(CheckpointError, match="at most 205 bytes"):
        check_name("x" * 206, room=50, error=CheckpointError)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_a_name_that_passes_stays_in_its_folder(name):
    try:
        check_name(name, folders=True)
    except ConfigError:
        return
    folder = Path("/folder/below")
    joined = os.path.normpath(folder / name)
    assert joined.startswith(f"{folder}{os.sep}")


@given(st.text(st.characters(exclude_characters="/\0")), st.integers(0, 40))
def test_a_shortened_name_fits(name, room):
    found = shortened(name, room)
    size = len(os.fsencode(name)) if not any("\ud800" <= c <= "\udfff" for c in name) else None
    if size is not None and size + room <= 255:
        assert found == name
    assert len(os.fsencode(found)) + room <= 255


def test_long_names_stay_different_and_keep_their_suffix():
    one, other = ("x" * 300 + end + ".wav" for end in "ab")
    assert shortened(one).endswith(".wav")
    assert len({shortened(one), shortened(other)}) == 2
    assert shortened(one) == shortened(one)
