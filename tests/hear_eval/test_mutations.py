"""Mutated files of tasks and of embeddings, through everything that reads them.

Whatever the files contain, there is an error of ours or a result, nothing is written outside the
folder, and what can be made again is made again.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hear_core.audio.files import find_audio_files
from hear_core.errors import HearError
from hear_eval.downstream.evaluation import EvaluationSettings, evaluate
from hear_eval.embeddings.files import embed_files
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import run_task
from hear_eval.embeddings.units import EmbeddingOptions
from hear_eval.report.results import read_results
from hear_eval.report.writing import write_report
from hear_eval.tasks.checking import check_task
from hear_eval.tasks.making import make_task
from hear_eval.tasks.recordings import read_recording_table, with_splits
from hear_eval.tasks.resampling import resample_task
from hear_eval.tasks.writing import write_audio, write_description

RATE = 800
SETTINGS = EvaluationSettings(grid_points=1, device="cpu", precision="float32")
NAMES = ["", ".", "..", "../../../x", "/etc/x", "a\0b", "a/b", 300 * "x", "\ud800"]
NUMBERS = [True, -1, 0, 1e12, 10**400, float("inf"), float("nan")]
VALUES = [None, *NAMES, *NUMBERS, [], {}, [[]], [1], {"a": 1}]
CONTENTS = [b"", b"[]", b"null", b"PK\3\4" + bytes(50), 100_000 * b"[", b"\xff\xfe"]
COUNTS = [20, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plugin(monkeypatch):
    module = SimpleNamespace(
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=RATE),
        get_scene_embeddings=lambda audio, model: torch.stack([audio.mean(1), audio.std(1)], 1),
        get_timestamp_embeddings=lambda audio, model: (
            audio.reshape(len(audio), 4, -1)[:, :, :3],
            torch.arange(4.0).mul(100).expand(len(audio), 4),
        ),
    )
    monkeypatch.setitem(sys.modules, "statistics_plugin", module)
    return Plugin("statistics_plugin")


def write_task(folder, kind):
    rng, labels = np.random.default_rng(0), {}
    for split in ("train", "valid", "test"):
        labels[split] = {}
        for i in range(4):
            noise = rng.uniform(-0.5, 0.5, RATE // 2).astype(np.float32)
            write_audio(folder / str(RATE) / split / f"{split}-{i}.wav", noise, RATE)
            event = {"label": "ab"[i % 2], "start": 0, "end": 200.0}
            labels[split][f"{split}-{i}.wav"] = ["ab"[i % 2]] if kind == "scene" else [event]
    grid = {"max_epochs": [2], "check_val_every_n_epoch": [1], "hidden_dim": [4]}
    write_description(
        folder,
        labels,
        ["a", "b"],
        embedding_type=kind,
        prediction_type="multiclass" if kind == "scene" else "multilabel",
        split_mode="trainvaltest",
        sample_duration=0.5,
        evaluation=["top1_acc" if kind == "scene" else "event_onset_200ms_fms"],
        evaluation_params={"task_specific_param_grid": grid},
    )
    return folder


def mutated(value, rng):
    """Return a JSON value with one part removed, renamed or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        key, kept = rng.choice(list(value)), dict(value)
        match rng.randrange(6):
            case 0:
                del kept[key]
            case 1:
                kept[rng.choice(NAMES)] = kept.pop(key)
            case _:
                kept[key] = mutated(value[key], rng)
        return kept
    if isinstance(value, list) and value and rng.random() < 0.75:
        index = rng.randrange(len(value))
        return [*value[:index], mutated(value[index], rng), *value[index + 1 :]]
    return rng.choice(VALUES)


def mutate(path, rng):
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_text(json.dumps(mutated(json.loads(content), rng)))
    elif rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif content and rng.random() < 0.5:
        changed = bytearray(content)
        for _ in range(3):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
    else:
        path.write_bytes(rng.choice(CONTENTS))


def files_of(folder):
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("kind", ["scene", "event"])
@pytest.mark.parametrize("count", COUNTS)
def test_mutated_tasks(plugin, tmp_path, kind, count):
    task, work, rng = write_task(tmp_path / "task", kind), tmp_path / "work", random.Random(0)
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        copy = shutil.copytree(task, work / "tasks" / "t")
        mutate(rng.choice(files_of(copy)), rng)
        check_task(copy)
        with suppress(HearError):
            resample_task(copy, 2 * RATE)
        with suppress(HearError):
            list(run_task(plugin, copy, work / "out" / "t"))
        assert {path.name for path in tmp_path.iterdir()} == {"task", "work"}
        assert {path.name for path in work.iterdir()} <= {"tasks", "out"}


@pytest.mark.parametrize("kind", ["scene", "event"])
@pytest.mark.parametrize("count", COUNTS)
def test_mutated_folders_of_embeddings(plugin, tmp_path, kind, count):
    task, whole = write_task(tmp_path / "task", kind), tmp_path / "whole" / "t"
    list(run_task(plugin, task, whole))
    evaluate(whole, SETTINGS)
    work, rng = tmp_path / "work", random.Random(0)
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        copy = shutil.copytree(whole, work / "model" / "t")
        mutate(rng.choice(files_of(copy)), rng)
        if rng.random() < 0.5:
            (copy / "prediction-done.json").unlink()
        with suppress(HearError):
            list(run_task(plugin, task, copy))
        with suppress(HearError):
            evaluate(copy, SETTINGS)
        with suppress(HearError):
            write_report(read_results([work]), work / "report", draw=False)
        assert {path.name for path in tmp_path.iterdir()} == {"task", "whole", "work"}
        assert {path.name for path in work.iterdir()} <= {"model", "report"}


@pytest.mark.parametrize("format_", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("count", COUNTS)
def test_mutated_embeddings_of_files(plugin, tmp_path, format_, count):
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    rng, work = random.Random(0), tmp_path / "work"
    for i in range(4):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, RATE).astype(np.float32)
        write_audio(tmp_path / "audio" / f"{i}.wav", noise, RATE)
    sources = find_audio_files([tmp_path / "audio"]).sources
    options = EmbeddingOptions("statistics_plugin", format=format_, joined=2, timestamps=True)
    list(embed_files(options, sources, tmp_path / "whole"))
    outputs = {p.name: p.read_bytes() for p in (tmp_path / "whole").glob(f"*.{format_}")}
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", work)
        path = rng.choice(files_of(work))
        if path.name in outputs:  # whose bytes have no checksum, but whose length is known
            path.write_bytes(outputs[path.name][: rng.randrange(len(outputs[path.name]))])
        else:
            mutate(path, rng)
        try:
            list(embed_files(options, sources, work))
        except HearError:
            assert path.name not in outputs
        else:
            assert {p.name: p.read_bytes() for p in work.glob(f"*.{format_}")} == outputs
        assert {path.name for path in tmp_path.iterdir()} == {"audio", "whole", "work"}


@pytest.mark.parametrize("count", COUNTS)
def test_mutated_tables(tmp_path, count):
    rng, work = random.Random(0), tmp_path / "work"
    rows = [["filename", "onset", "offset", "event_label", "fold"]]
    for i in range(6):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, RATE).astype(np.float32)
        write_audio(tmp_path / "audio" / f"{i}.wav", noise, RATE)
        rows.append([f"{i}.wav", "0.0", "0.5", "ab"[i % 2], str(i % 3)])
    table = tmp_path / "audio" / "table.csv"
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        lines = [list(row) for row in rows]
        line = rng.choice(lines)
        cells = [*NAMES[:-1], *map(repr, NUMBERS), '"', "a;b", " ", "1e400"]
        line[rng.randrange(len(line))] = rng.choice(cells)
        table.write_text("\n".join(map(",".join, lines)))
        with suppress(HearError):
            recordings = with_splits(read_recording_table(table), {"a": 1.0, "b": 1.0, "c": 1.0})
            kind = rng.choice(["multiclass", "multilabel", "events"])
            make_task(work, "t", recordings, kind, sample_rates=[RATE])
        assert {path.name for path in tmp_path.iterdir()} <= {"audio", "work"}
