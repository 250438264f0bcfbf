"""Arrays that are damaged or made by somebody else raise one kind of error."""

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.io.arrays import read_array


def zipped(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2))


def saved(array, **options):
    return lambda path: np.save(path, np.array(array), **options)


def damaged_header(path):
    np.save(path, np.zeros(2))
    path.write_bytes(path.read_bytes().replace(b"(2,)", b"(2((", 1))


def longer(path):
    np.save(path, np.zeros(2))
    with path.open("ab") as file:
        file.write(b"more")


def truncated(path):
    np.save(path, np.zeros(200))
    path.write_bytes(path.read_bytes()[:-1])


WRITERS = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "zip": zipped,
    "strings": saved(["a", "b"]),
    "complex": saved([1j]),
    "objects": saved([{}], allow_pickle=True),
    "nan": saved([[0, np.nan]]),
    "infinite": saved([np.inf]),
    "header": damaged_header,
    "longer": longer,
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no array"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_not_an_array_of_numbers_is_refused(tmp_path, kind):
    WRITERS[kind](tmp_path / "a.npy")
    with pytest.raises(ConfigError, match=r"a\.npy"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("order", "CF")
def test_arrays_of_numbers_are_mapped(tmp_path, order):
    array = np.array(np.random.default_rng(0).normal(size=(5, 3)), order=order)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, array)
    np.save(tmp_path / "b.npy", [np.nan])
    assert np.isnan(read_array(tmp_path / "b.npy", finite=False)).all()
