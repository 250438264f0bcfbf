"""Metrics of predictions, against numbers of the originals and scikit-learn."""

import csv
import shutil
import warnings

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.data.clips import Clips, packed_clips
from hear_train.data.datasets import DataConfig, open_dataset
from hear_train.data.packing import pack_clips
from hear_train.evaluation import EvaluationConfig, Predictions, predict, write_per_class
from hear_train.recipes import load_recipe
from hear_train.runs import evaluate_network
from tests.goldens.arrays import arrays
from tests.hear_train.conftest import RATE
from tests.shared import ESC10, MN04, needs_esc10, needs_mn04

GOLDEN = arrays("train/metrics")
NAMES = ("mAP", "aucroc", "d_prime")


def predictions(logits, targets, known=None):
    known = np.ones(targets.shape, bool) if known is None else known
    names = tuple(str(number) for number in range(len(logits)))
    return Predictions(names, logits, targets > 0, known, {})


def test_metrics_of_audioset_are_those_of_the_originals():
    found = predictions(GOLDEN["logits"], GOLDEN["targets"]).metrics(NAMES)
    expected = GOLDEN["efficientat_audioset"]
    assert (found["mAP"], found["aucroc"]) == pytest.approx(tuple(expected[:2]), abs=1e-6)
    probabilities = predictions(GOLDEN["panns_probabilities"], GOLDEN["targets"])
    found = probabilities.metrics(NAMES)
    assert found["mAP"] == pytest.approx(float(GOLDEN["panns_mean_ap"]), abs=1e-6)
    assert found["d_prime"] == pytest.approx(float(GOLDEN["d_prime_of_mean_auc"]), abs=1e-6)
    rows = probabilities.per_class()
    for name, key in (("average_precision", "average_precision"), ("aucroc", "auc")):
        values = [row[name] for row in rows]
        np.testing.assert_allclose(values, GOLDEN[f"panns_{key}"], atol=1e-6)


def test_masked_metrics_are_those_of_openmic():
    probability, mask = np.split(GOLDEN["openmic_targets"], 2, 1)
    found = predictions(GOLDEN["openmic_logits"], probability > 0.5, mask > 0)
    metrics = found.metrics(("mAP", "aucroc", "top1_acc"))
    expected = GOLDEN["efficientat_openmic"]
    assert (metrics["mAP"], metrics["aucroc"]) == pytest.approx(tuple(expected[:2]), abs=1e-6)
    assert np.isnan(metrics["top1_acc"])
    values = [row["average_precision"] for row in found.per_class()]
    np.testing.assert_allclose(values, GOLDEN["openmic_ap_per_class"], atol=1e-6)
    assert [row["clips"] for row in found.per_class()] == (mask > 0).sum(0).tolist()


def test_accuracies_are_those_of_the_originals():
    targets = np.eye(10)[GOLDEN["class_labels"]]
    found = predictions(GOLDEN["class_logits"], targets).metrics(("top1_acc",))
    for name in ("efficientat_dcase20", "efficientat_esc50"):
        assert found["top1_acc"] == pytest.approx(GOLDEN[name][0], abs=1e-9)


def test_classes_without_positive_or_negative_clips_and_warnings():
    logits, targets = GOLDEN["logits"], GOLDEN["targets"].copy()
    targets[:, 0], targets[:, 1] = 0, 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predictions(logits, targets)
        metrics = found.metrics(NAMES)
        empty = predictions(logits, 0 * targets).metrics(NAMES)
    precisions = [row["average_precision"] for row in found.per_class()]
    np.testing.assert_allclose(precisions, GOLDEN["degenerate_ap"], atol=1e-6)
    assert metrics["mAP"] == pytest.approx(GOLDEN["degenerate_ap"].mean(), abs=1e-6)
    areas = [roc_auc_score(targets[:, c], logits[:, c]) for c in range(2, 12)]
    assert metrics["aucroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert empty["mAP"] == 0
    assert np.isnan(empty["aucroc"])
    assert np.isnan(empty["d_prime"])


def test_a_perfect_and_a_wrong_class_have_a_finite_mean_d_prime():
    targets = np.repeat(np.arange(6)[:, None] > 2, 2, 1)
    logits = np.where(targets, 1.0, 0.0)
    logits[:, 1] *= -1
    found = predictions(logits, targets)
    assert [row["aucroc"] for row in found.per_class()] == [1, 0]
    assert found.metrics(("d_prime",))["d_prime"] == pytest.approx(0)


def test_clips_at_their_own_length_and_padded(sounds, tmp_path):
    """Each clip has the logits that it has alone; too short ones are padded."""
    network = ZOO.load("mn01_starter").train()
    frontend = ZOO["mn01_starter"].frontend()
    lengths = (RATE // 2, RATE // 4, 10)
    for number, length in enumerate(lengths):
        samples = soundfile.read(sounds / "0-0.wav", dtype="float32")[0][:length]
        soundfile.write(tmp_path / f"{number}.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "broken.wav").write_bytes(b"broken")
    dataset = open_dataset([tmp_path], DataConfig(format="clips"))
    clips = Clips(dataset.train, RATE)
    own = predict(network, frontend, clips)
    fixed = predict(network, frontend, clips, seconds=0.3, batch_size=2)
    assert own.names == fixed.names == ("0.wav", "1.wav", "2.wav")
    assert list(own.failed) == ["broken.wav"]
    assert not own.known.any()  # without labels
    assert network.training
    network.eval()
    for number, length in enumerate(lengths):
        samples = soundfile.read(sounds / "0-0.wav", dtype="float32")[0][:length]
        least = max(frontend.min_samples, frontend.samples_for(network.min_frames))
        for found, wanted in ((own, max(length, least)), (fixed, round(0.3 * RATE))):
            padded = np.pad(samples, (0, max(0, wanted - length)))[:wanted]
            with torch.no_grad():
                expected = network(frontend(torch.from_numpy(padded)[None]))["logits"][0]
            np.testing.assert_allclose(found.logits[number], expected, atol=1e-4)


def test_metrics_by_class_as_a_table(tmp_path):
    found = predictions(GOLDEN["logits"], GOLDEN["targets"])
    write_per_class(tmp_path / "a.csv", [f"class, {c}" for c in range(12)], found)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [f"class, {c}" for c in range(12)]
    areas = [float(row["aucroc"]) for row in rows]
    np.testing.assert_allclose(areas, GOLDEN["panns_auc"], atol=1e-6)


def test_metrics_that_cannot_select_a_checkpoint():
    with pytest.raises(ConfigError, match=r"unknown metric 'map'; known: aucroc, .* mAP"):
        EvaluationConfig(metrics=("map",)).check()


@needs_mn04
@needs_esc10
@pytest.mark.slow
def test_real_clips_in_an_hdf5_file_with_targets_of_a_teacher(tmp_path):
    """What `hear test audioset` prints is what scikit-learn computes; a corrupt clip is counted."""
    h5py = pytest.importorskip("h5py")
    labels, path = ZOO["mn04_as"].labels, tmp_path / "eval_segments_mp3.hdf"
    files = sorted((ESC10 / "audio").glob("5-*"))
    dataset = open_dataset([*files], DataConfig(format="clips"))
    pack_clips(tmp_path / "clips.hdf", {"test": dataset.train}, labels)
    teacher = ZOO.open("mn04_as", MN04)
    clips = Clips(packed_clips(tmp_path / "clips.hdf", 527), RATE)
    logits = predict(teacher.network, teacher.record.frontend(), clips, seconds=10.0).logits
    targets = logits > np.log(0.1 / 0.9)
    shutil.copy(tmp_path / "clips.hdf", path)
    with h5py.File(path, "a") as file:
        file["target"][:] = np.packbits(targets, axis=1)
        file["mp3"][7] = file["mp3"][7][:50]
    _, found = evaluate_network(load_recipe("audioset"), [path], "mn01_starter")
    assert list(found.failed) == [clips[7].name]
    kept = np.arange(len(files)) != 7
    np.testing.assert_array_equal(found.targets, targets[kept])
    metrics = found.metrics(("mAP", "aucroc"))
    scores, targets = found.logits, found.targets
    precisions = [
        average_precision_score(targets[:, c], scores[:, c]) if targets[:, c].any() else 0.0
        for c in range(527)
    ]
    some = [c for c in range(527) if 0 < targets[:, c].sum() < len(targets)]
    areas = [roc_auc_score(targets[:, c], scores[:, c]) for c in some]
    assert metrics["mAP"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert metrics["aucroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert len(some) > 50
    assert metrics["aucroc"] > 0.8
