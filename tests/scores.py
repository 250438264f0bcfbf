"""Scores as heareval writes them beside embeddings."""

from __future__ import annotations

import json


def write_scores(folder, *folds, metric="top1_acc", mode="max"):
    """Write the scores of a task: of its one split, or of folds and what they come to."""
    names = ["test"] if len(folds) == 1 else [f"fold{i:02}" for i in range(len(folds))]
    content = {
        name: {
            "test_loss": 0.5,
            "test_score": score,
            f"test_{metric}": score,
            "validation_score": 0.5,
            "epoch": 3,
        }
        for name, score in zip(names, folds, strict=True)
    }
    if len(folds) > 1:
        content["aggregated_scores"] = {"test_score_mean": -1.0, "test_score_std": -1.0}
    content |= {"hparams": {"lr": 1e-3}, "postprocessing": [], "score_mode": mode}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.predicted-scores.json").write_text(json.dumps(content))
    (folder / "prediction-done.json").write_text("{}")
    return folder
