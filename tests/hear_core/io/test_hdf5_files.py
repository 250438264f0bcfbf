"""HDF5 files that are damaged or made by somebody else raise one kind of error."""

import h5py
import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.io.hdf5_files import open_hdf5, read_numbers, read_strings


def of_text(file, name):
    file[name] = np.array([b"a", b"b"])


DAMAGED = {
    "a group": lambda file, name: file.create_group(name),
    "a single value": lambda file, name: file.create_dataset(name, data=3.0),
    "NaN or infinite": lambda file, name: file.create_dataset(name, data=[[1.0, np.nan]]),
    "and not numbers": of_text,
    "claims 4000000000 bytes": lambda file, name: file.create_dataset(name, (10**9,), chunks=True),
    "does not have the dataset numbers or more": lambda file, name: None,
}


@pytest.mark.parametrize("problem", DAMAGED)
def test_what_is_not_an_array_of_finite_numbers(tmp_path, problem):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        DAMAGED[problem](file, "numbers")
    with (
        pytest.raises(ConfigError, match=rf"a\.h5 is not an HDF5 file of numbers: .*{problem}"),
        open_hdf5(tmp_path / "a.h5", "of numbers") as file,
    ):
        read_numbers(file, "numbers", "more")


@pytest.mark.parametrize(
    "content", [[1, 2], [b"\xff"], [[b"a", b"b"]]], ids=["numbers", "not-utf-8", "matrix"]
)
def test_what_is_not_a_list_of_strings(tmp_path, content):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["names"] = np.array(content)
    with (
        pytest.raises(ConfigError, match=r"a\.h5 is not an HDF5 file of names"),
        open_hdf5(tmp_path / "a.h5", "of names") as file,
    ):
        read_strings(file, "names")


def test_files_that_are_not_hdf5(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in ("a.h5", "missing.h5", "."):
        with (
            pytest.raises(ConfigError, match="is not an HDF5 file of names"),
            open_hdf5(tmp_path / name, "of names"),
        ):
            pass


def test_strings_and_numbers(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fixed"] = np.array([b"Hund", "Kätzchen".encode()])
        file.create_dataset("free", data=["a", "Kätzchen"], dtype=h5py.string_dtype())
        file["numbers"] = np.arange(6, dtype=np.float16).reshape(2, 3)
    with open_hdf5(tmp_path / "a.h5", "") as file:
        assert read_strings(file, "missing", "fixed") == ["Hund", "Kätzchen"]
        assert read_strings(file, "free") == ["a", "Kätzchen"]
        assert read_numbers(file, "numbers").tolist() == [[0, 1, 2], [3, 4, 5]]
