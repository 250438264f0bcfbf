from __future__ import annotations

import pytest

from hear_core.errors import ConfigError
from hear_core.io.resumable import Resumable


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text(path.name)
    return paths


def run(output, files, settings, stop=None):
    """Return the files that were worked on, and let the run be killed before one."""
    worked, kept = [], Resumable(output, settings)
    with kept.running():
        for file in files:
            if file == stop:
                return worked
            if kept.result_of(file) is None:
                worked.append(file)
                kept.keep(file, [[0.1, file.read_text()]])
            assert kept.result_of(file) in (None, [[0.1, file.name]])
    kept.remove()
    return worked


def test_a_run_resumes_after_what_it_did(tmp_path, files):
    output, (first, second) = tmp_path / "out.csv", files
    assert run(output, files, {"top": 3}, stop=second) == [first]
    assert run(output, files, {"top": 3}) == [second]
    assert run(output, files, {"top": 3}) == [first, second]


def test_results_of_other_settings_or_files_are_not_used(tmp_path, files):
    output, (first, second) = tmp_path, files
    assert run(output, files, {"top": 3}, stop=second) == [first]
    assert run(output, files, {"top": 4}, stop=second) == [first]
    first.write_text("longer")
    assert run(output, [], {"top": 4}, stop=second) == []
    kept = Resumable(output, {"top": 4})
    with kept.running():
        assert kept.result_of(first) is None


def test_two_processes_do_not_write_one_output(tmp_path):
    with (
        Resumable(tmp_path / "a", {}).running(),
        pytest.raises(ConfigError, match="another process"),
        Resumable(tmp_path / "a", {}).running(),
    ):
        pass


def test_damaged_results_are_left_out(tmp_path, files):
    output, second = tmp_path / "out.csv", files[1]
    run(output, files, {"top": 3}, stop=second)
    with (tmp_path / ".out.csv.journal").open("a") as journal:
        journal.write('5\n{"item": 5}\n[]\n{"item": [], "state": 1, "result": 2}\n')
    assert run(output, files, {"top": 3}) == [second]
