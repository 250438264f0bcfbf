"""Predictions in files, in the layouts of the originals, and teachers that hear."""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.teachers import StoredTeacher, Teacher

LOGITS = np.random.default_rng(0).normal(size=(3, 527)).astype(np.float16)
ROWS = {"abcdefghij0": 2, "abcdefghij1": 0, "other": 1}


def expected(row):
    return 1 / (1 + np.exp(-LOGITS[row].astype(np.float64)))


WRITERS = {
    ".pkl": lambda path: path.write_bytes(pickle.dumps(ROWS)),
    ".json": lambda path: path.write_text(json.dumps(ROWS)),
    ".txt": lambda path: path.write_text("\n".join(sorted(ROWS, key=ROWS.get))),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_of_an_array_by_name(tmp_path, suffix):
    np.save(tmp_path / "ensemble.npy", LOGITS)
    WRITERS[suffix](tmp_path / f"index{suffix}")
    teacher = StoredTeacher(tmp_path / "ensemble.npy")
    for name, row in {"Yabcdefghij0.mp3": 2, "abcdefghij1": 0, "other.wav": 1}.items():
        np.testing.assert_allclose(teacher.probabilities(name), expected(row), rtol=1e-6)
    assert "Yabcdefghij9.mp3" not in teacher
    assert teacher.classes == 527


def test_names_of_more_than_one_word_are_lines(tmp_path):
    np.save(tmp_path / "a.npy", LOGITS)
    (tmp_path / "a.txt").write_text("dog bark.wav\ncat.OPUS\nfolder/rain.wav\n")
    teacher = StoredTeacher(tmp_path / "a.npy")
    for row, name in enumerate(["dog bark.wav", "cat.wav", "rain"]):
        np.testing.assert_allclose(teacher.probabilities(name), expected(row), rtol=1e-6)
    assert list(teacher) == ["dog bark", "cat", "rain"]


def test_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["filenames"] = np.array([b"Yabcdefghi.mp.mp3", b"Ym.p3....333.mp3", b"b.wav"])
        file["logits"] = LOGITS
    teacher = StoredTeacher(tmp_path / "a.h5")
    np.testing.assert_allclose(teacher.probabilities("Ym.p3....333"), expected(1), rtol=1e-6)
    np.testing.assert_allclose(teacher.probabilities("b"), expected(2), rtol=1e-6)


def test_a_pickle_that_names_code_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", LOGITS)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": print}))
    with pytest.raises(ConfigError, match=r"does not say which clip .* holds builtins.print"):
        StoredTeacher(tmp_path / "a.npy")


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        StoredTeacher(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", LOGITS[:2])
    with pytest.raises(ConfigError, match="is not said"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with pytest.raises(ConfigError, match=r"names are of the rows 0 to 2"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"a": -1}))
    with pytest.raises(ConfigError, match=r"names are of the rows -1 to -1"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"yes/a.wav": 0, "no/a.wav": 1}))
    with pytest.raises(ConfigError, match=r"two rows for clips called a, apart from folders"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(ConfigError, match="does not say which clip"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"a\.npy is no NumPy array"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "b.h5").write_text("no HDF5")
    with pytest.raises(ConfigError, match="a dataset of names"):
        StoredTeacher(tmp_path / "b.h5")


def test_a_teacher_says_what_its_network_says_and_does_not_learn():
    teacher = Teacher(ZOO, "mn01_as", taps=("e1",), pretrained=False)
    network = ZOO.random_init("mn01_as").eval()
    log_mel = torch.randn(2, 128, 60)
    said = teacher.train()(log_mel)
    wanted = network(log_mel, ("logits", "e1"))
    for tap, values in wanted.items():
        torch.testing.assert_close(said[tap], values.detach(), atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(ConfigError, match="logits are learned in any case"):
        Teacher(ZOO, "mn01_as", taps=("logits",), pretrained=False)
    with pytest.raises(ConfigError, match="has no tap e9"):
        Teacher(ZOO, "mn01_as", taps=("e9",), pretrained=False)
