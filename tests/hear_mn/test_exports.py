"""Every published module as an ONNX file; what eight bits cost downstream."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from hear_core.audio.framing import reflect
from hear_core.audio.reading import read_audio
from hear_core.export.onnx_file import compare, export
from tests import goldens
from tests.hear_mn.test_published import ORIGINALS, module
from tests.shared import ESC10, METRO, MN04, needs_esc10, needs_metro, needs_mn04

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.slow
@needs_metro
@needs_esc10
@pytest.mark.parametrize("original", ORIGINALS)
def test_every_module_can_be_exported(original, tmp_path):
    torch.save(goldens.mobilenet(ORIGINALS[original]["network"]), tmp_path / "weights.pt")
    model = module(original.split(".")[1]).load_model(tmp_path / "weights.pt", engine="torch")
    export(model, tmp_path / "out.onnx")
    files = [METRO, *sorted((ESC10 / "audio").glob("*.ogg"))[::80]]
    recordings = [read_audio(file, 32000).numpy() for file in files]
    found = list(compare(tmp_path / "out.onnx", model, recordings, "float32"))
    assert all(comparison.passed for comparison in found), found


@pytest.mark.slow
@needs_mn04
@needs_esc10
def test_eight_bits_cost_less_than_a_point_on_esc10(tmp_path):
    """Accuracy of a linear classifier over the five folds, embeddings logits and e1."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rows = list(csv.DictReader((ESC10 / "meta.csv").open()))
    clips = np.stack(
        [
            reflect(read_audio(ESC10 / "audio" / r["filename"], 32000).numpy(), 0, 160000)
            for r in rows
        ]
    )
    labels = np.array([row["category"] for row in rows])
    folds = np.array([int(row["fold"]) for row in rows])
    model = module("mn04_e1_l").load_model(str(MN04), engine="torch")
    calibration = list(clips[folds == 1][::2])
    export(model, tmp_path / "int8.onnx", precision="int8", calibration=calibration)

    def accuracy(embeddings):
        correct = []
        for fold in range(1, 6):
            train = folds != fold
            scaler = preprocessing.StandardScaler().fit(embeddings[train])
            classifier = linear_model.LogisticRegression(C=0.01, max_iter=2000)
            classifier.fit(scaler.transform(embeddings[train]), labels[train])
            correct.append(classifier.score(scaler.transform(embeddings[~train]), labels[~train]))
        return np.mean(correct)

    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
    eight = np.concatenate([session.run(None, {"waveform": clip[None]})[0] for clip in clips])
    whole = model.get_scene_embeddings(torch.from_numpy(clips)).numpy()
    assert accuracy(whole) > 0.96
    assert accuracy(eight) > accuracy(whole) - 0.01
