from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys

import pytest

from hear_core.errors import ConfigError, FileError, HearError
from hear_core.io.files import atomic_write, check_or_write_settings, exclusive_lock, writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, durable=True) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.parent == path.parent
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:  # noqa: PT012
        part.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_and_removed_like_a_file(tmp_path):
    with atomic_write(tmp_path / "state", durable=True) as part:
        part.mkdir()
        (part / "a").write_text("1")
    assert (tmp_path / "state" / "a").read_text() == "1"
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "other") as part:  # noqa: PT012
        part.mkdir()
        (part / "a").write_text("1")
        1 / 0  # noqa: B018
    assert names(tmp_path) == ["state"]


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as one:
        one.write_text("first")
        with atomic_write(path) as two:
            assert one != two
            two.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_name_of_the_greatest_length_is_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".npy")
    with atomic_write(path) as part:
        part.write_text("1")
    with exclusive_lock(path, "wait"):
        pass
    assert path.read_text() == "1"


def test_what_the_system_refuses_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "below"
    for context in (atomic_write(blocked), exclusive_lock(blocked, "wait")):
        with pytest.raises(FileError, match=r"cannot write .*below: \w"), context:
            pytest.fail("the block must not be entered")
    context = atomic_write(tmp_path)
    with pytest.raises(FileError, match="there is a folder of this name"), context:
        pytest.fail("the block must not be entered")


def test_a_full_disk_names_the_file(tmp_path):
    message = r"cannot write .*a\.txt: No space left on device"
    with pytest.raises(FileError, match=message), atomic_write(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_errors_of_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, writing(tmp_path / "a"):
        (tmp_path / "b").read_text()
    assert not isinstance(caught.value, HearError)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as part:
        part.write_text("content")
    assert os.read(reader, 100) == b"content"
    assert pipe.is_fifo()
    os.close(reader)


def _hold(path, held, release):
    with exclusive_lock(path, "wait"):
        held.set()
        release.wait(60)


def test_a_lock_keeps_another_process_out(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "a", held, release))
    process.start()
    assert held.wait(60)
    lock = exclusive_lock(tmp_path / "a", "try later")
    with pytest.raises(ConfigError, match=r"another process is writing .*; try later"), lock:
        pytest.fail("the block must not be entered")
    release.set()
    process.join()
    with exclusive_lock(tmp_path / "a", "try later"):
        pass


def test_other_settings_are_refused(tmp_path):
    check_or_write_settings(tmp_path / "new", {"a": 1, "b": (1, 2)})
    check_or_write_settings(tmp_path / "new", {"a": 1, "b": (1, 2)})
    with pytest.raises(ConfigError, match=r"made with other settings.*: a is 1 there and 2 here\."):
        check_or_write_settings(tmp_path / "new", {"a": 2, "b": (1, 2)})


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, "\0", json.dumps("a")])
def test_damaged_settings_name_the_file_and_the_way_out(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.json .*delete .* to start over"):
        check_or_write_settings(tmp_path, {"a": 1}, "settings.json", "weights")
