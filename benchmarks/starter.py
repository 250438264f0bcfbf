"""Evaluation of mn01_starter against its teacher: ``python -m benchmarks.starter DATA``.

DATA is a folder with ``esc10`` and ``audio``. The network is evaluated on clips that it was not
trained on: the metro station, and fold 5 of ESC-10, whose names begin with ``5-``, without one clip
whose first second is among the training clips from FSD50K. Controls are the same network with
random weights, the same network trained with predictions of other clips, and the mean predictions
of the teacher.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from hear_core.audio.reading import read_audio
from hear_core.networks.backbone import Backbone
from hear_core.zoo.labels import audioset_labels
from hear_mn import ZOO
from hear_train.agreement import Agreement, agreement, as_markdown, predict_logits
from hear_train.loop.logs import read_log

SAMPLE_RATE, TEACHER, STARTER = 32000, "mn04_as", "mn01_starter"
LOGGED = ("step", "loss", "teacher", "logits", "lr")
# Clips from recordings of which another section is in the training data.
SEEN = {"5-235671-A.ogg"}
EMBEDDINGS = {
    "starter": ("starter", {}),
    "starter, random weights": ("starter", {"pretrained": False}),
    "mn04_all_b_mel_avgs": ("mn04_all_b_mel_avgs", {}),
}


def agreements(data: Path, control: Path | None) -> dict[str, Agreement]:
    """Return the agreement of the starter and its controls with the teacher, on fold 5."""
    files = sorted((data / "esc10" / "audio").glob("5-*"))
    files = [file for file in files if file.name not in SEEN]
    waveforms = [read_audio(file, SAMPLE_RATE).numpy() for file in files]

    def predict(network: Backbone) -> np.ndarray:
        return predict_logits(network, ZOO[TEACHER].frontend(), waveforms)

    teacher = predict(ZOO.load(TEACHER))
    mean = np.repeat(teacher.mean(0, keepdims=True), len(teacher), 0)
    found = {
        "starter": agreement(predict(ZOO.load(STARTER)), teacher),
        "random weights": agreement(predict(ZOO.random_init(STARTER)), teacher),
        "the teacher's mean": agreement(mean, teacher),
        "the teacher itself": agreement(teacher, teacher),
    }
    if control is not None:
        shuffled = agreement(predict(ZOO.load(STARTER, control)), teacher)
        found = {"starter": found.pop("starter"), "shuffled teacher": shuffled, **found}
    return found


def metro(data: Path) -> dict[str, list[tuple[str, float]]]:
    """Return the five most probable classes of the metro station, by network."""
    waveform = read_audio(data / "audio" / "metro_station-paris.wav", SAMPLE_RATE).numpy()
    found = {}
    for name in (STARTER, TEACHER):
        values = torch.from_numpy(
            predict_logits(ZOO.load(name), ZOO[name].frontend(), [waveform])[0]
        )
        scores, classes = values.sigmoid().topk(5)
        labels = [audioset_labels()[i] for i in classes.tolist()]
        rounded = [round(score, 3) for score in scores.tolist()]
        found[name] = list(zip(labels, rounded, strict=True))
    return found


def downstream(data: Path) -> dict[str, list[float]]:
    """Return the accuracy of a linear classifier on each test fold of ESC-10, by embedding."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with (data / "esc10" / "meta.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folds, classes = (np.array([row[key] for row in rows]) for key in ("fold", "category"))
    found = {}
    for name, (module, options) in EMBEDDINGS.items():
        model = importlib.import_module(f"hear_mn.{module}").load_model(engine="torch", **options)
        paths = [data / "esc10" / "audio" / row["filename"] for row in rows]
        embedded = [
            model.get_scene_embeddings(read_audio(path, SAMPLE_RATE)[None])[0].numpy()
            for path in paths
        ]
        embeddings, found[name] = np.stack(embedded), []
        for fold in sorted(set(folds)):
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            classifier.fit(embeddings[folds != fold], classes[folds != fold])
            score = classifier.score(embeddings[folds == fold], classes[folds == fold])
            found[name].append(round(float(score), 4))
    return found


def join(logs: list[Path], target: Path) -> None:
    """Join the logs of consecutive runs to one file, with consecutive steps."""
    rows: list[dict[str, float]] = []
    for log in logs:
        before = rows[-1]["step"] if rows else 0
        rows += [{**row, "step": row["step"] + before} for row in read_log(log)]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LOGGED)
        writer.writerows([f"{row[name]:.6g}" for name in LOGGED] for row in rows)


def draw_curves(log: Path, target: Path) -> None:
    """Draw the terms of the loss and the learning rate over the steps."""
    rows = read_log(log)
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    curves = {"teacher": "teacher, cross-entropy", "logits": "logits, mean square"}
    upper, lower, below = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1])
    for axes, (name, label) in zip((upper, lower), curves.items(), strict=True):
        axes.plot(steps, [row[name] for row in rows], color="tab:blue")
        axes.set_ylabel(label, fontsize=8)
        axes.grid(alpha=0.3)
    below.plot(steps, [row["lr"] for row in rows], color="tab:gray")
    below.set(ylabel="lr", xlabel="step")
    figure.savefig(target, dpi=90)


def draw_bars(
    rows: Mapping[str, Agreement], accuracy: Mapping[str, list[float]], target: Path
) -> None:
    """Draw the starter beside its controls."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    shown = [who for who in rows if who != "the teacher itself"]
    for axes, key, title in (
        (first, "top1", "most probable class is the teacher's"),
        (second, "mAP", "mAP, teacher as labels"),
    ):
        bars = axes.bar(shown, [getattr(rows[who], key) for who in shown])
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
        axes.set_title(title, fontsize=9)
    bars = third.bar(list(accuracy), [float(np.mean(folds)) for folds in accuracy.values()])
    third.bar_label(bars, fmt="%.3f", fontsize=8)
    third.set_title("ESC-10, linear classifier", fontsize=9)
    for axes in (first, second, third):
        axes.set_ylim(0, 1.1)
        axes.tick_params(axis="x", labelrotation=20, labelsize=7)
    figure.savefig(target, dpi=90)


def main() -> None:
    """Measure the starter and its controls, print the results and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--control", type=Path, help="Weights of a run with teacher.shuffle=true.")
    parser.add_argument("--log", type=Path, nargs="*", default=[], help="Logs of consecutive runs.")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rows, tags = agreements(arguments.data, arguments.control), metro(arguments.data)
    print(as_markdown(rows))
    for name, classes in tags.items():
        print(name, *(f"{label} {score:.2f}" for label, score in classes), sep=", ")
    accuracy = downstream(arguments.data)
    for name, folds in accuracy.items():
        print(f"{name}: {np.mean(folds):.4f} {folds}")
    found = {
        "fold 5": {who: row._asdict() for who, row in rows.items()},
        "metro": tags,
        "ESC-10": accuracy,
    }
    (arguments.output / "starter.json").write_text(json.dumps(found, indent=2) + "\n")
    if arguments.log:
        join(arguments.log, arguments.output / "starter.csv")
    draw_curves(arguments.output / "starter.csv", arguments.output / "starter_loss.png")
    draw_bars(rows, accuracy, arguments.output / "starter.png")


if __name__ == "__main__":
    main()
