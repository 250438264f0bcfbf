"""Small folders of embeddings, as heareval's runner writes them."""

from __future__ import annotations

import json
import pickle

import numpy as np

LABELS = ["bird", "cough", "knock"]
KFOLD = ["fold00", "fold01", "fold02"]
OWN = ["train", "valid", "test"]


def write_scenes(folder, splits=KFOLD, rows=40, width=12, seed=0, noise=1.5, **metadata):
    """Clips of one class each, whose embeddings are a point of the class and noise."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(LABELS), width))
    metadata = {"prediction_type": "multiclass", "evaluation": ["top1_acc"], **metadata}
    write(folder, splits, "scene", **metadata)
    for split in splits:
        index = random.integers(0, len(LABELS), rows)
        labels = [[LABELS[i]] for i in index]
        embeddings = centres[index] + noise * random.normal(size=(rows, width))
        write_split(folder, split, embeddings, labels)
    return folder


def write_events(folder, files=3, frames=60, width=12, seed=0, noise=0.5, **metadata):
    """Files in which classes come and go, and embeddings of them every 50 ms."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(LABELS), width))
    evaluation = ["event_onset_200ms_fms", "segment_1s_er"]
    metadata = {"prediction_type": "multilabel", "evaluation": evaluation, **metadata}
    write(folder, OWN, "event", **metadata)
    for split in OWN:
        rows, labels, stamps, events = [], [], [], {}
        for name in (f"{split}{i}.wav" for i in range(files)):
            active = np.zeros((frames, len(LABELS)), bool)
            events[name] = []
            for label in range(len(LABELS)):
                for begin in range(int(random.integers(0, 10)), frames - 12, 20):
                    end = begin + int(random.integers(4, 12))
                    active[begin:end, label] = True
                    times = {"start": begin * 50.0, "end": end * 50.0}
                    events[name].append({"label": LABELS[label], **times})
            rows.append(active @ centres + noise * random.normal(size=(frames, width)))
            labels += [[LABELS[i] for i in np.flatnonzero(row)] for row in active]
            stamps += [[f"somewhere/{name}", 50.0 * i] for i in range(frames)]
        write_split(folder, split, np.concatenate(rows), labels)
        (folder / f"{split}.json").write_text(json.dumps(events))
        (folder / f"{split}.filename-timestamps.json").write_text(json.dumps(stamps))
    return folder


def write(folder, splits, embedding_type, *, grid=None, postprocessing=None, **metadata):
    folder.mkdir(exist_ok=True, parents=True)
    given = {"task_specific_param_grid": grid, "event_postprocessing_grid": postprocessing}
    metadata = {
        "task_name": "sounds",
        "embedding_type": embedding_type,
        "split_mode": "trainvaltest" if splits == OWN else "new_split_kfold",
        "sample_duration": 1.0,
        "splits": splits,
        "evaluation_params": {name: value for name, value in given.items() if value},
        **metadata,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    rows = [f"{i},{label}" for i, label in enumerate(LABELS)]
    (folder / "labelvocabulary.csv").write_text("\n".join(["idx,label", *rows]) + "\n")


def write_split(folder, split, embeddings, labels):
    np.asarray(embeddings, np.float32).tofile(folder / f"{split}.embeddings.npy")
    dimensions = json.dumps(list(np.shape(embeddings)))
    (folder / f"{split}.embedding-dimensions.json").write_text(dimensions)
    (folder / f"{split}.target-labels.pkl").write_bytes(pickle.dumps(labels))
