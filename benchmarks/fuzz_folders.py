"""Doors of the fuzz that take folders and options, see `benchmarks.fuzz_doors`."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.fuzz_files import RATE, TABLE, noise, prepare_tables, require
from benchmarks.mutations import (
    NAMES,
    NUMBERS,
    WORDS,
    mutated_bytes,
    mutated_value,
)
from hear_core.audio.files import find_audio_files
from hear_core.errors import HearError

# --- Folders of tasks, embeddings and runs --------------------------------------------------------


def _statistics_plugin() -> Any:
    """Register a plug-in without a network, and return it loaded."""
    from hear_eval.embeddings.plugin import Plugin

    sys.modules["statistics_plugin"] = SimpleNamespace(  # type: ignore[assignment]
        load_model=lambda model_file_path="": SimpleNamespace(sample_rate=RATE),
        get_scene_embeddings=lambda audio, model: torch.stack([audio.mean(1), audio.std(1)], 1),
        get_timestamp_embeddings=lambda audio, model: (
            audio[:, : audio.shape[1] // 12 * 12].reshape(len(audio), 4, -1)[:, :, :3],
            torch.arange(4.0).mul(100).expand(len(audio), 4),
        ),
    )
    return Plugin("statistics_plugin")


def _write_task(folder: Path, kind: str) -> Path:
    from hear_eval.tasks.writing import write_audio, write_description

    labels: dict[str, dict[str, Any]] = {}
    for split in ("train", "valid", "test"):
        labels[split] = {}
        for i in range(4):
            sound = noise(RATE // 2, i)
            write_audio(folder / str(RATE) / split / f"{split}-{i}.wav", sound, RATE)
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


def _damage(folder: Path, rng: random.Random) -> Path:
    """Damage one file below a folder, and return its path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
    path = rng.choice([p for p in files if p.suffix == ".json"] or files)
    if rng.random() < 0.4:
        path = rng.choice(files)
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_text(json.dumps(mutated_value(json.loads(content), rng)))
    elif rng.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(mutated_bytes(content, rng))
    return path


def prepare_tasks(folder: Path) -> Any:
    """Write a task of each kind."""
    plugin = _statistics_plugin()
    return plugin, [_write_task(folder / kind, kind) for kind in ("scene", "event")]


def attempt_task(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Check, resample and embed a damaged task; one that passes its check must be embedded."""
    from hear_eval.embeddings.tasks import run_task
    from hear_eval.tasks.checking import check_task
    from hear_eval.tasks.resampling import resample_task

    plugin, tasks = prepared
    copy = Path(shutil.copytree(rng.choice(tasks), work / "tasks" / "t"))
    path = _damage(copy, rng)
    report = check_task(copy)
    failures = []
    for action in (
        lambda: resample_task(copy, 2 * RATE),
        lambda: list(run_task(plugin, copy, work / "out" / "t")),
    ):
        try:
            action()
        except HearError as error:
            failures.append(error)
    passed = not report.problems
    require(not passed or not failures, f"{path.name} passes the check, but: {failures[:1]}")
    if failures:
        raise failures[0]


def prepare_embedded(folder: Path) -> Any:
    """Embed and evaluate a task of each kind, and embed files in each format."""
    from hear_eval.downstream.evaluation import EvaluationSettings, evaluate
    from hear_eval.embeddings.files import embed_files
    from hear_eval.embeddings.tasks import run_task
    from hear_eval.embeddings.units import EmbeddingOptions

    plugin, tasks = prepare_tasks(folder / "tasks")
    settings = EvaluationSettings(grid_points=1, device="cpu", precision="float32")
    whole = []
    for task in tasks:
        whole.append((task, folder / "whole" / task.name))
        list(run_task(plugin, *whole[-1]))
        evaluate(whole[-1][1], settings)
    sounds = prepare_tables(_made(folder / "audio"))
    sources = find_audio_files([sounds]).sources
    made = []
    for format_ in ("npy", "npz", "parquet"):
        options = EmbeddingOptions("statistics_plugin", format=format_, joined=2, timestamps=True)
        list(embed_files(options, sources, folder / format_))
        outputs = {p.name: p.read_bytes() for p in (folder / format_).glob(f"*.{format_}")}
        made.append((options, folder / format_, outputs))
    return plugin, settings, whole, sources, made


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def attempt_embedded(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Resume a damaged folder of embeddings; what is damaged must be made again, or be reported."""
    from hear_eval.downstream.evaluation import evaluate
    from hear_eval.embeddings.files import embed_files
    from hear_eval.embeddings.tasks import run_task
    from hear_eval.report.results import read_results
    from hear_eval.report.writing import write_report

    plugin, settings, whole, sources, made = prepared
    if rng.random() < 0.5:
        options, folder, outputs = rng.choice(made)
        shutil.copytree(folder, work / "out")
        files = sorted(p for p in (work / "out").iterdir() if p.suffix != ".lock")
        path = rng.choice(files)
        if path.name in outputs:  # its bytes have no checksum, but its length is known
            path.write_bytes(outputs[path.name][: rng.randrange(len(outputs[path.name]))])
        elif rng.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(mutated_bytes(path.read_bytes(), rng))
        list(embed_files(options, sources, work / "out"))
        now = {name: (work / "out" / name).read_bytes() for name in outputs}
        require(now == outputs, f"{path.name} was damaged, and embeddings changed")
        return
    task, folder = rng.choice(whole)
    copy = Path(shutil.copytree(folder, work / "model" / "t"))
    _damage(copy, rng)
    if rng.random() < 0.5:
        (copy / "prediction-done.json").unlink(missing_ok=True)
    failures = []
    for action in (
        lambda: list(run_task(plugin, task, copy)),
        lambda: evaluate(copy, settings),
        lambda: write_report(read_results([work]), work / "report", draw=False),
    ):
        try:
            action()
        except HearError as error:
            failures.append(error)
    if failures:
        raise failures[0]


@dataclass(frozen=True)
class _Numbers:
    """Batches of random numbers by step."""

    batch_size: int = 4

    def __getitem__(self, step: int) -> Any:
        from hear_train.batch import Batch, Targets

        waveform = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        return Batch(step, waveform, Targets(waveform[:, :2].sigmoid()))

    def __len__(self) -> int:
        return 1 << 30


def _trainer(folder: Path, epochs: int) -> Any:
    from accelerate import Accelerator

    from hear_train.loop.trainer import Trainer, TrainerConfig
    from hear_train.objectives.objective import Objective

    class Regression(Objective):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.layers = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

        @property
        def network(self) -> Any:
            return self.layers

        def forward(self, batch: Any) -> dict[str, torch.Tensor]:
            return {"loss": (self.layers(batch.waveform) - batch.targets.weak).square().mean()}

    config = TrainerConfig(epochs=epochs, steps_per_epoch=2, save_every=2, log_every=1)
    module = Regression()
    # The settings do not have the number of epochs, so that a run can be longer than it was.
    trainer = Trainer(module, _Numbers(), config, folder, Accelerator(cpu=True))  # type: ignore[arg-type]
    return module, trainer


def prepare_runs(folder: Path) -> Any:
    """Train two epochs, and keep the folder of the run and what four epochs would end with."""
    _trainer(folder / "run", 2)[1].run()
    shutil.copytree(folder / "run", folder / "longer")
    module, trainer = _trainer(folder / "longer", 4)
    trainer.run()
    return folder / "run", {key: value.clone() for key, value in module.state_dict().items()}


def attempt_run(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Resume a damaged run; one that resumes must end as one that was not damaged."""
    run, expected = prepared
    shutil.copytree(run, work / "run")
    path = _damage(work / "run", rng)
    state = next((p for p in (work / "run").glob("state-*")), None)
    if rng.random() < 0.05 and state:
        (state / "custom_checkpoint_0.pkl").write_text(f"cos\nsystem\n(S'touch {canary}'\ntR.")
    module, trainer = _trainer(work / "run", 4)
    trainer.run()
    for key, value in module.state_dict().items():
        require(torch.equal(value, expected[key]), f"{path.name} was damaged: {key} differs")


# --- Options --------------------------------------------------------------------------------------

OPTIONS: Mapping[str, Sequence[str]] = {
    "tag {wav} --backbone mn01_as --random-weights": (
        *("--window", "--hop", "--top", "--only", "--groups", "--format", "--output", "--device"),
        *("--threshold", "--release", "--median", "--smoothing", "--merge-gap", "--min-duration"),
        *("--thresholds", "--model", "--backbone"),
    ),
    "tag {wav} --backbone mn01_as --random-weights --events": (
        *("--threshold", "--release", "--median", "--smoothing", "--merge-gap", "--min-duration"),
        *("--window", "--hop"),
    ),
    "detect {wav} --detector fmn04 --random-weights": (
        *("--window", "--hop", "--top", "--only", "--threshold", "--release", "--median"),
        *("--smoothing", "--merge-gap", "--min-duration", "--format", "--output", "--detector"),
    ),
    "embed statistics_plugin {wav} -o {out}": (
        *("--format", "--shard", "--model", "--model-options", "--on", "--part-files"),
    ),
    "tasks make {table} {out} --name t": (
        "--kind",
        "--seconds",
        "--sample-rate",
        "--shares",
        "--name",
    ),
    "complexity mn01_as": ("--seconds", "--set"),
    "list": ("--set",),
    "train esc50 {out} --data {table}": ("--set", "--workers", "--start", "--log", "--device"),
    "listen --backbone mn01_as --random-weights --sample-rate 32000": (
        *("--window", "--hop", "--channels", "--sample-rate", "--threshold", "--format"),
    ),
}
SETTINGS = (
    "data.fold",
    "trainer.epochs",
    "optimiser.lr",
    "data",
    "",
    "data.cache",
    "model.backbone",
)


def prepare_options(folder: Path) -> Any:
    """Write a recording and a table."""
    _statistics_plugin()
    prepare_tables(folder)
    (folder / "table.csv").write_text("\n".join(map(",".join, TABLE)))
    return folder


def attempt_options(folder: Path, work: Path, rng: random.Random, canary: Path) -> None:
    """Run a command with an odd value of an option; it must not end with an unexpected error."""
    command, names = rng.choice(list(OPTIONS.items()))
    name = rng.choice(names)
    value = str(rng.choice([*WORDS, *NUMBERS, *NAMES[:-2], "3", "0.5", "a=b", "1/0", "cuda:99"]))
    if name == "--set":
        value = f"{rng.choice(SETTINGS)}={value}"
    if name in ("--output", "--model", "--start") and value.startswith(("/", "..", "~")):
        value = str(work / "deep" / "er")  # where to write is the user's choice
    places = {"wav": folder / "0.wav", "table": folder / "table.csv", "out": work / "out"}
    arguments = [part.format(**places) for part in command.split()]
    out, code = run_command([*arguments, f"{name}={value}"], work)
    require("Traceback" not in out, f"{name}={value[:40]!r}: {out[-300:]}")
    if "unexpected" in out and "fault of efficient-hear" in out:
        msg = f"{command.split()[0]} {name}={value[:60]!r}: {out[-300:]}"
        raise RuntimeError(msg)
    require(code != 0 or "nan" not in out.split(), f"{name}={value[:40]!r} gives NaN")


def run_command(arguments: Sequence[str], work: Path) -> tuple[str, int]:
    """Run ``hear`` in this process, and return what it prints and its exit code."""
    from hear_cli.app import run_app

    out, before, stdin = io.StringIO(), sys.argv, sys.stdin
    sys.argv = ["hear", *arguments]
    sys.stdin = io.TextIOWrapper(io.BytesIO(noise(RATE).tobytes()[:-1]))
    try:
        with redirect_stdout(out), redirect_stderr(out):
            run_app()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        out.write("" if isinstance(end.code, int | None) else str(end.code))
    finally:
        sys.argv, sys.stdin = before, stdin
    return out.getvalue(), code
