"""Stored predictions in the layouts of the originals, and teacher networks."""

import json
import pickle
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.zoo.registry import Zoo
from hear_mn import ZOO
from hear_sed.backbones.registry import BACKBONES
from hear_sed.frame_detector import FrameDetector
from hear_sed.zoo import build_detector
from hear_train.objectives.teachers import NetworkTeacher, StoredTeacher

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
    assert all(name in teacher for name in ("dog bark.flac", "folder/cat", "rain.wav"))


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
    with pytest.raises(ConfigError, match=r"a\.pkl is not a pickle of .* names builtins.print"):
        StoredTeacher(tmp_path / "a.npy")


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        StoredTeacher(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", LOGITS[:2])
    with pytest.raises(ConfigError, match="cannot tell which clip"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with pytest.raises(ConfigError, match=r"index names rows 0 to 2"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"a": -1}))
    with pytest.raises(ConfigError, match=r"index names rows -1 to -1"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"yes/a.wav": 0, "no/a.wav": 1}))
    with pytest.raises(ConfigError, match=r"two rows for a \(folders"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not a pickle of"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"a\.npy cannot be read as a NumPy array"):
        StoredTeacher(tmp_path / "a.npy")
    (tmp_path / "b.h5").write_text("no HDF5")
    with pytest.raises(ConfigError, match="a dataset of names"):
        StoredTeacher(tmp_path / "b.h5")


INDICES = {
    "infinite": '{"a": Infinity}',
    "fraction": '{"a": 0.5}',
    "text": '{"a": "0"}',
    "truth": '{"a": true}',
    "nested": "[" * 100_000,
    "number": "3",
    "lists": '[["a"]]',
    "twice": '["a", "a"]',
    "repeated key": '{"a": 0, "a": 1}',
    "not utf-8": b"\xff",
}


@pytest.mark.parametrize("kind", INDICES)
def test_an_index_that_does_not_map_names_to_rows(tmp_path, kind):
    np.save(tmp_path / "a.npy", LOGITS)
    content = INDICES[kind]
    (tmp_path / "a.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match=r"a\.json|two rows"):
        StoredTeacher(tmp_path / "a.npy")


def test_an_index_of_another_suffix(tmp_path):
    np.save(tmp_path / "a.npy", LOGITS)
    with pytest.raises(ConfigError, match=r"a\.csv cannot be an index"):
        StoredTeacher(tmp_path / "a.npy", tmp_path / "a.csv")


def test_logits_that_are_not_finite_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb")
    for logits in ([[0.0, np.nan]] * 2, [["a", "b"]] * 2):
        np.save(tmp_path / "a.npy", np.array(logits))
        with pytest.raises(ConfigError, match=r"a\.npy cannot be read as a NumPy array of num"):
            StoredTeacher(tmp_path / "a.npy")


LAYOUTS = {
    "names in a group": {"names/of": [b"a"], "logits": [[1.0]]},
    "a single logit": {"names": [b"a"], "logits": 1.0},
    "numbers as names": {"names": [1], "logits": [[1.0]]},
    "names not in UTF-8": {"names": [b"\xff"], "logits": [[1.0]]},
    "logits of text": {"names": [b"a"], "logits": [[b"1"]]},
    "NaN": {"names": [b"a"], "logits": [[np.nan]]},
    "more names": {"names": [b"a", b"b"], "logits": [[1.0]]},
    "the same name twice": {"names": [b"a", b"a"], "logits": [[1.0], [2.0]]},
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_hdf5_files_of_another_layout(tmp_path, kind):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in LAYOUTS[kind].items():
            file[name] = np.array(values)
    with pytest.raises(ConfigError, match=r"a\.h5"):
        StoredTeacher(tmp_path / "a.h5")


def test_a_teacher_predicts_what_its_network_does_and_is_not_trained():
    teacher = NetworkTeacher(ZOO, ("mn01_as",), taps=("e1",), pretrained=False)
    network = ZOO.random_init("mn01_as").eval()
    log_mel = torch.randn(2, 128, 60)
    targets, taps = teacher.train()(lambda frontend: log_mel)
    wanted = network(log_mel, ("logits", "e1"))
    torch.testing.assert_close(targets.weak, wanted["logits"].sigmoid().detach())
    torch.testing.assert_close(taps["e1"], wanted["e1"].detach(), atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(ConfigError, match="logits are not matched as a tap"):
        NetworkTeacher(ZOO, ("mn01_as",), taps=("logits",), pretrained=False)
    with pytest.raises(ConfigError, match="does not have the tap e9"):
        NetworkTeacher(ZOO, ("mn01_as",), taps=("e9",), pretrained=False)


def test_an_ensemble_averages_logits_and_each_member_has_its_front_end():
    names = ("mn01_as", "mn10_as_mels_64")
    teacher = NetworkTeacher(ZOO, names, temperature=2.0, pretrained=False)
    log_mels = {n_mels: torch.randn(2, n_mels, 60) for n_mels in (128, 64)}
    targets, taps = teacher(lambda frontend: log_mels[frontend.n_mels])
    logits = [
        ZOO.random_init(name).eval()(log_mels[n_mels])["logits"].detach()
        for name, n_mels in zip(names, log_mels, strict=True)
    ]
    torch.testing.assert_close(targets.weak, (sum(logits) / 4).sigmoid(), atol=1e-4, rtol=1e-4)
    assert taps == {}
    with pytest.raises(ConfigError, match="of one teacher, but 2 were given"):
        NetworkTeacher(ZOO, names, taps=("e1",), pretrained=False)


@pytest.mark.parametrize("name", ["BEATs", "ATST-F", "fpasst", "M2D", "ASIT"])
@pytest.mark.parametrize("stage", ["strong", "weak"])
def test_every_transformer_teaches_frames_and_clips(name, stage):
    record = build_detector(name, stage=stage)
    make = partial(BACKBONES[name].make, depth=1, dim=32, heads=2)
    tiny = partial(lambda backbone, **other: FrameDetector(make(), **other))
    zoo = Zoo({"tiny": replace(record, network=tiny)})
    teacher = NetworkTeacher(zoo, ("tiny",), pretrained=False)
    sound = torch.rand(2, 32000) - 0.5
    targets, _ = teacher(lambda frontend: frontend(sound))
    network = zoo.random_init("tiny").eval()
    tap = {"strong": "logits", "weak": "weak"}[stage]
    with torch.no_grad():
        wanted = network(record.frontend()(sound), (tap,))[tap].sigmoid()
    if stage == "strong":
        assert teacher.framewise
        assert targets.weak is None
        assert targets.strong.shape == (2, 447, 50)
        torch.testing.assert_close(targets.strong, wanted.squeeze(2))
    else:
        assert not teacher.framewise
        assert targets.strong is None
        assert teacher.classes == 527
        torch.testing.assert_close(targets.weak, wanted)
