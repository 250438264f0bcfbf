from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.io.threads import torch_threads
from hear_eval.downstream import evaluation, predictors, training
from hear_eval.downstream.embedded_task import read_embedded_task
from hear_eval.downstream.evaluation import EvaluationSettings, evaluate, evaluate_task
from hear_eval.downstream.grid import Hyperparameters, choose_hyperparameters
from hear_eval.downstream.protocol import Job, Outcome, protocol_of
from hear_eval.downstream.result_files import OutcomeJournal, evaluation_lock
from hear_eval.downstream.results import (
    FoldScores,
    aggregate,
    fold_scores,
    metric_names,
    primary_score,
)
from hear_eval.tasks.description import TaskError
from tests.hear_eval.embedding_folders import LABELS, OWN, write_events, write_scenes

# Small and without chance, so that heareval can be followed step by step.
GRID = {
    "hidden_layers": [0, 1],
    "hidden_dim": [16],
    "dropout": [0.0],
    "lr": [0.003, 0.03],
    "batch_size": [50],
    "patience": [3],
    "max_epochs": [24],
    "check_val_every_n_epoch": [2],
    "initialization": ["xavier_uniform_"],
}
FLOAT32 = EvaluationSettings(precision="float32", device="cpu", grid_points=3)


@pytest.fixture(autouse=True)
def _one_thread():
    """Use one thread: matrices this small are slower with more, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def followed_by_heareval(folder, points, best, monkeypatch, tmp_path):
    """Let heareval evaluate a folder, starting from the same initial weights."""
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    folds = 3 if (folder / "fold00.embeddings.npy").exists() else 1
    jobs = [(0, i) for i in range(len(points))] + [(fold, best) for fold in range(1, folds)]
    turn = count()

    class SameWeights(oracle.FullyConnectedPrediction):
        def __init__(self, nfeatures, nlabels, prediction_type, conf):
            given = {**conf, "initialization": torch.nn.init.xavier_uniform_}
            super().__init__(nfeatures, nlabels, prediction_type, given)
            fold, number = jobs[next(turn)]
            point = points[number]
            sizes = [nfeatures, *[point.hidden_dim] * point.hidden_layers, nlabels]
            generator = torch.Generator().manual_seed(training._seed(42, fold, number))
            made = predictors._layers(point, sizes, generator)
            linears = [m for m in self.modules() if isinstance(m, torch.nn.Linear)]
            for layer, linear in zip(made, linears, strict=True):
                linear.weight.data = layer.weight
                hidden = bool(layer.bias.numel())
                linear.bias.data = layer.bias if hidden else layer.shift
                # Rounding makes Adam move a bias that has no gradient.
                linear.bias.requires_grad_(not hidden)

    monkeypatch.setattr(oracle, "FullyConnectedPrediction", SameWeights)
    return run_heareval(folder, len(points), monkeypatch, tmp_path)


def run_heareval(folder, points, monkeypatch, tmp_path):
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.chdir(tmp_path)
    oracle.task_predictions(
        embedding_path=folder,
        embedding_size=12,
        grid_points=points,
        gpus=None,
        in_memory=True,
        deterministic=True,
        grid="default",
        logger=logging.getLogger("heareval"),
    )
    return json.loads((folder / "test.predicted-scores.json").read_text())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["scenes", "labels", "events", "loss"])
def test_heareval_does_the_same(kind, tmp_path, monkeypatch):
    """Every number of every fold, except for the time that it took."""
    folder = tmp_path / "folder"
    options = {"grid": GRID}
    if kind in ("scenes", "labels"):
        labels = {"prediction_type": "multilabel", "evaluation": ["mAP", "aucroc", "d_prime"]}
        write_scenes(folder, rows=60, noise=2, **(labels if kind == "labels" else {}), **options)
    elif kind == "events":
        settings = {"median_filter_ms": [100, 250], "min_duration": [0, 125], "threshold": [0.3]}
        write_events(folder, noise=1, postprocessing=settings, **options)
    else:
        settings = {"median_filter_ms": [100], "min_duration": [0]}
        options["use_scoring_for_early_stopping"] = False
        write_events(folder, noise=1, postprocessing=settings, **options)
    mine = evaluate(folder, FLOAT32)
    points = choose_hyperparameters(read_embedded_task(folder).description, number=3)
    chosen = [
        (p.lr, p.hidden_layers) == (mine["hparams"]["lr"], mine["hparams"]["hidden_layers"])
        for p in points
    ]
    theirs = followed_by_heareval(folder, points, chosen.index(True), monkeypatch, tmp_path)
    assert list(mine) == list(theirs)
    # A parameter that comes as text from the task is text there, and a function else.
    assert mine["hparams"].pop("initialization") == "<function xavier_uniform_>"
    theirs["hparams"].pop("initialization")
    for name, wanted in theirs.items():
        if isinstance(wanted, dict):
            assert list(mine[name]) == list(wanted)
            wanted = {key: v for key, v in wanted.items() if "time" not in key}
            mine[name] = {key: v for key, v in mine[name].items() if "time" not in key}
            strings = {key for key, v in wanted.items() if isinstance(v, str)}
            assert {key: mine[name].pop(key) for key in strings} == {
                key: wanted.pop(key) for key in strings
            }
            assert mine[name] == pytest.approx(wanted, abs=2e-4, nan_ok=True), name
        else:
            assert mine[name] == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_with_dropout_and_bfloat16_scores_are_on_average_those_of_heareval(tmp_path, monkeypatch):
    """The mean loss over five seeds is within two standard errors of the difference.

    What becomes of each seed differs here, since random numbers do.
    """
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    seed_everything = oracle.seed_everything
    grid = {**GRID, "hidden_layers": [2], "hidden_dim": [64], "dropout": [0.3], "lr": [0.003]}
    del grid["initialization"]  # which heareval cannot take from a task
    losses = {"mine": [], "theirs": []}
    for seed in range(5):
        folder = write_scenes(tmp_path / str(seed), OWN, rows=100, noise=2, grid=grid)
        options = EvaluationSettings("default", 1, seed, "cpu", "bfloat16")
        losses["mine"].append(evaluate(folder, options)["test"]["test_loss"])
        monkeypatch.setattr(
            oracle, "seed_everything", lambda *_, seed=seed, **__: seed_everything(seed)
        )
        theirs = run_heareval(folder, 1, monkeypatch, tmp_path)
        losses["theirs"].append(theirs["test"]["test_loss"])
    mine, theirs = map(np.array, losses.values())
    error = math.hypot(*(found.std(ddof=1) / len(found) ** 0.5 for found in (mine, theirs)))
    assert abs(mine.mean() - theirs.mean()) < 2 * error


def test_the_best_points_are_the_same_with_and_without_others(tmp_path):
    """Points that are dropped from the search because they cannot win do not win."""
    folder = write_scenes(tmp_path, noise=0.7, grid=GRID)
    task = read_embedded_task(folder)
    found = evaluate_task(task, FLOAT32)
    points = choose_hyperparameters(task.description, number=3)
    compute = predictors.choose_device_and_dtype("cpu", "float32")
    alone = [
        training.train_together(task, [Job(0, i, point)], protocol_of(task), compute)[0]
        for i, point in enumerate(points)
    ]
    best = max(alone, key=lambda outcome: outcome.score)
    assert best.score == 1.0  # else this shows nothing
    assert found.scores["fold00"]["validation_score"] == best.score
    assert found.scores["fold00"]["epoch"] == best.epoch
    np.testing.assert_allclose(
        found.predictions["fold00"]["prediction_logit"], best.logits, atol=1e-4
    )


@pytest.mark.parametrize("size", [7, 25, 100])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 3, 2)])
def test_batches_are_the_rows_of_the_splits_in_their_order(tmp_path, size, order):
    names, number = [f"fold{i:02}" for i in range(4)], 40
    task = read_embedded_task(write_scenes(tmp_path, names))
    splits = [names[i] for i in order]
    fold = task.description.folds[0]._replace(train=tuple(splits))
    folds = (fold, *task.description.folds[1:])
    task = replace(task, description=replace(task.description, folds=folds))
    expected = torch.cat([task.embeddings[task.rows[split]] for split in splits])
    assert len(expected) == number * len(splits)
    for points in (
        [Hyperparameters(batch_size=size)],
        [Hyperparameters(batch_size=size), Hyperparameters(batch_size=size)],
    ):
        jobs = [Job(0, i, point) for i, point in enumerate(points)]
        batches = training._Batches(task, task.targets, jobs)
        for _ in range(2):
            found = [rows for rows, _ in batches]
            assert all(1 < len(rows) <= size for rows in found)
            rest = len(expected) % size == 1
            torch.testing.assert_close(torch.cat(found), expected[: len(expected) - rest])


def test_written_files_can_be_read_without_pickle(tmp_path):
    scenes = write_scenes(tmp_path / "scenes", grid=GRID)
    scores = evaluate(scenes, FLOAT32)
    assert json.loads((scenes / "test.predicted-scores.json").read_text()) == scores
    assert json.loads((scenes / "prediction-done.json").read_text())["grid_points"] == 3
    for fold in ("fold00", "fold01", "fold02"):
        with np.load(scenes / f"{fold}.predictions.npz", allow_pickle=False) as arrays:
            right = arrays["prediction"].argmax(1) == arrays["target"].argmax(1)
        assert right.mean() == pytest.approx(scores[fold]["test_top1_acc"])
    events = write_events(tmp_path / "events", grid=GRID)
    evaluate(events, FLOAT32)
    with np.load(events / "test.predictions.npz", allow_pickle=False) as arrays:
        assert set(arrays["event_label"]) <= set(LABELS)
        assert set(arrays["event_file"]) <= {"test0.wav", "test1.wav", "test2.wav"}
        assert (arrays["event_end"] >= arrays["event_start"]).all()
        assert (
            len(arrays["timestamp"]) == len(arrays["filename"]) == len(arrays["prediction"]) == 180
        )
    leftovers = {path.name for path in events.iterdir() if path.name.startswith(".")}
    assert leftovers <= {".test.predicted-scores.json.lock"}


def without_times(scores):
    if not isinstance(scores, dict):
        return scores
    kept = {key: without_times(value) for key, value in scores.items() if "time_in" not in key}
    return {key: value for key, value in kept.items() if key != "embedding_path"}


def test_the_same_seed_gives_the_same_and_another_one_another(tmp_path):
    folder = write_scenes(tmp_path, grid={**GRID, "dropout": [0.3]})
    first, second, other = (
        evaluate(folder, FLOAT32._replace(seed=seed), again=True) for seed in (1, 1, 2)
    )
    assert without_times(first) == without_times(second)
    assert first["fold00"]["test_loss"] != other["fold00"]["test_loss"]


KILLED = """
import os, sys
from pathlib import Path
from hear_eval.downstream import result_files as evaluation_files
from hear_eval.downstream.evaluation import EvaluationSettings, evaluate

write, number = evaluation_files.OutcomeJournal.write, 0

def write_and_die(*arguments):
    global number
    write(*arguments)
    number += 1
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), 9)

evaluation_files.OutcomeJournal.write = write_and_die
evaluate(Path(sys.argv[1]), EvaluationSettings(precision="float32", device="cpu", grid_points=3))
"""


def test_a_run_that_was_killed_ends_with_the_same_scores(tmp_path, monkeypatch):
    whole = write_scenes(tmp_path / "whole", grid=GRID)
    killed = write_scenes(tmp_path / "killed", grid=GRID)
    wanted = evaluate(whole, FLOAT32)
    command = [sys.executable, "-c", KILLED, str(killed), "1"]
    result = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert result.returncode == -9
    assert not (killed / "prediction-done.json").exists()
    assert len([*(killed / ".evaluation").glob("*.npz")]) == 1
    trained = []
    train = training.train_together
    monkeypatch.setattr(
        evaluation, "train_together", lambda *args: trained.append(args[1]) or train(*args)
    )
    assert without_times(evaluate(killed, FLOAT32)) == without_times(wanted)
    # One group of the search was there, so that one and that of the other folds were left.
    assert len(trained) == 2
    for fold in ("fold00", "fold01", "fold02"):
        mine, theirs = (np.load(folder / f"{fold}.predictions.npz") for folder in (killed, whole))
        np.testing.assert_array_equal(mine["prediction"], theirs["prediction"])


def test_a_journal_gives_back_what_it_took_unless_it_is_damaged(tmp_path):
    setting = (("median_filter_ms", 250), ("min_duration", 125.5))
    logits = np.random.default_rng(0).random((5, 3), np.float32)
    outcomes = [Outcome(-math.inf, 2, setting, logits, 0.1), None, Outcome(0.1, 5, (), logits, 2)]
    OutcomeJournal(tmp_path, {"seed": 1}).write("key", outcomes)
    found = OutcomeJournal(tmp_path, {"seed": 1}).read("key")
    assert [outcome and outcome._replace(logits=0) for outcome in found] == [
        outcome and outcome._replace(logits=0) for outcome in outcomes
    ]
    np.testing.assert_array_equal(found[2].logits, logits)
    assert OutcomeJournal(tmp_path, {"seed": 1}).read("other") is None
    (path,) = (tmp_path / ".evaluation").glob("*.npz")
    for size in (300, 20, 0):
        os.truncate(path, size)
        assert OutcomeJournal(tmp_path, {"seed": 1}).read("key") is None
    OutcomeJournal(tmp_path, {"seed": 1}).write("key", outcomes)
    assert OutcomeJournal(tmp_path, {"seed": 2}).read("key") is None


@pytest.mark.parametrize("change", ["seed", "embeddings", "labels"])
def test_predictors_trained_with_other_settings_are_not_reused(tmp_path, monkeypatch, change):
    folder = write_scenes(tmp_path, grid=GRID)
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "make_results", None)
        with pytest.raises(TypeError):
            evaluate(folder, FLOAT32)
    assert len([*(folder / ".evaluation").glob("*.npz")]) == 3
    if change != "seed":
        write_scenes(folder, seed=1 if change == "embeddings" else 0, noise=1.6, grid=GRID)
    options = FLOAT32._replace(seed=7) if change == "seed" else FLOAT32
    found = evaluate(folder, options)
    assert without_times(found) == without_times(evaluate(folder, options, again=True))


def test_an_evaluated_folder_is_evaluated_again_only_on_request(tmp_path, caplog):
    folder = write_scenes(tmp_path, grid=GRID)
    scores = evaluate(folder, FLOAT32)
    path = folder / "test.predicted-scores.json"
    path.write_text(json.dumps({"test": {"test_score": 0.5}, "by": "heareval"}))
    with caplog.at_level(logging.INFO, "hear_eval"):
        assert evaluate(folder, FLOAT32) == {"test": {"test_score": 0.5}, "by": "heareval"}
    assert "is evaluated" in caplog.text
    assert without_times(evaluate(folder, FLOAT32, again=True)) == without_times(scores)
    # Incomplete scores do not count.
    path.write_text(path.read_text()[:50])
    assert without_times(evaluate(folder, FLOAT32)) == without_times(scores)


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("seed", 42, 1),
        ("grid", "default", "fast"),
        ("grid_points", 3, 4),
        ("precision", "float32", "bfloat16"),
        ("device", "cpu", "cuda"),
    ],
)
def test_scores_are_not_given_for_other_options(tmp_path, name, there, here):
    folder = write_scenes(tmp_path, grid=GRID)
    scores = evaluate(folder, FLOAT32)
    message = rf"^{folder} was evaluated with other .*: {name} is {there} there and {here} here; "
    with pytest.raises(ConfigError, match=message):
        evaluate(folder, FLOAT32._replace(**{name: here}))
    # An option that is auto never differs, and heareval does not write its options.
    assert evaluate(folder, EvaluationSettings(grid_points=3)) == scores
    theirs = {"grid_points": 1, "gpus": None, "in_memory": True}
    (folder / "prediction-done.json").write_text(json.dumps(theirs))
    assert evaluate(folder, FLOAT32._replace(**{name: here})) == scores


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_are_not_given_for_other_embeddings(tmp_path, precision):
    folder, options = tmp_path / "folder", FLOAT32._replace(precision=precision)
    scores = evaluate(write_scenes(folder, grid=GRID), options)
    write_scenes(folder, grid=GRID)  # the same again
    assert evaluate(folder, options) == scores
    for path in write_scenes(tmp_path / "older", seed=1, grid=GRID).iterdir():
        os.utime(path, (0, 0))
        shutil.copy2(path, folder)  # with its time
    with pytest.raises(ConfigError, match="embeddings or labels have changed since"):
        evaluate(folder, options)
    assert evaluate(folder, options, again=True)["fold00"] != scores["fold00"]
    evaluate(folder, options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": 1, "grid": "slow"}, "unknown grid"),
        ({"grid_points": 0}, "number of grid points must be at least 1"),
        ({"device": "nowhere"}, "cannot be computed on 'nowhere'"),
        ({"precision": "float8"}, "unknown precision"),
        ({}, r"no fold01\.target-labels\.pkl"),
    ],
)
def test_an_error_keeps_earlier_results(tmp_path, wrong, message):
    folder = write_scenes(tmp_path, grid=GRID)
    evaluate(folder, FLOAT32)
    done = (folder / "prediction-done.json").read_bytes()
    if not wrong:
        (folder / "fold01.target-labels.pkl").unlink()
    with pytest.raises((TaskError, ConfigError), match=message):
        evaluate(folder, FLOAT32._replace(**wrong), again=True)
    assert (folder / "prediction-done.json").read_bytes() == done


def test_predictions_of_older_scores_do_not_stay(tmp_path):
    folder = write_scenes(tmp_path, grid=GRID)
    (folder / "fold00.predictions.pkl").touch()
    evaluate(folder, FLOAT32)
    assert not (folder / "fold00.predictions.pkl").exists()
    assert (folder / "fold00.predictions.npz").exists()
    assert (folder / "fold00.target-labels.pkl").exists()


def test_the_primary_score_is_the_mean_of_folds_with_undefined_ones_as_zero(tmp_path):
    scores = evaluate(write_scenes(tmp_path, grid=GRID), FLOAT32)
    assert primary_score(scores) == pytest.approx(scores["aggregated_scores"]["test_score_mean"])
    undefined = {"test": {"test_score": math.nan}, "hparams": {}}
    assert primary_score(undefined) == 0
    assert primary_score({"a": {"test_score": 0.5}, **undefined}) == 0.25
    both = {"a": {"test_score": math.inf}, "b": {"test_score": -math.inf}}
    assert math.isnan(primary_score(both))


def test_an_undefined_score_of_a_fold_counts_as_the_worst():
    fold = {"test_score": 0.5, "test_mAP": 0.5, "test_segment_1s_er": 0.2, "test_loss": 1.0}
    scores = {"a": fold, "b": dict.fromkeys(fold, math.nan), "score_mode": "min"}
    scores["aggregated_scores"] = {f"{name}_mean": value for name, value in fold.items()}
    assert metric_names(scores) == ["mAP", "segment_1s_er"]
    precision, error = (fold_scores(scores, metric) for metric in metric_names(scores))
    assert (
        fold_scores(scores) == precision == FoldScores("mAP", (0.5, 0.0), 1, lower_is_better=False)
    )
    assert (precision.mean, precision.std) == pytest.approx((0.25, 0.125**0.5))
    assert precision.remark.startswith("mAP is undefined in 1 of 2 folds, ")
    assert error == FoldScores("segment_1s_er", (0.2, math.inf), 1, lower_is_better=True)
    assert fold_scores({"a": fold}).std is None
    assert not fold_scores({"a": fold}).remark


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"fold00": 5}',
        '{"fold00": {"test_score": "0.5"}}',
        '{"fold00": {"test_score": null}}',
        "[" * 100_000,
    ],
)
def test_damaged_scores_are_computed_again(tmp_path, content):
    folder = write_scenes(tmp_path, grid=GRID)
    scores = evaluate(folder, FLOAT32)
    (folder / "test.predicted-scores.json").write_text(content)
    again = evaluate(folder, FLOAT32)
    assert fold_scores(again) == fold_scores(scores)


def test_a_split_that_leads_out_of_the_folder_is_refused(tmp_path):
    folder = write_scenes(tmp_path / "folder")
    metadata = json.loads((folder / "task_metadata.json").read_text())
    metadata["splits"][0] = "../fold00"
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(TaskError, match=r"the split '../fold00' cannot be used as a file name"):
        evaluate(folder, FLOAT32)
    assert {path.name for path in tmp_path.iterdir()} == {"folder"}


@pytest.mark.parametrize(
    "options", [{"grid_points": 0}, {"seed": -1}, {"device": "moon"}, {"precision": "float8"}]
)
def test_invalid_options_are_refused(tmp_path, options):
    folder = write_scenes(tmp_path, grid=GRID)
    with pytest.raises(ConfigError):
        evaluate(folder, FLOAT32._replace(**options))


def test_two_processes_do_not_share_a_folder(tmp_path):
    with evaluation_lock(tmp_path), pytest.raises(ConfigError, match="another process is writing"):
        evaluate(tmp_path)
    with pytest.raises(TaskError, match="not a folder of embeddings"):
        evaluate(tmp_path / "missing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": ["accuracy"]}, "unknown metric 'accuracy'"),
        ({"evaluation": ["segment_1s_er"]}, "segment_1s_er is a metric of events"),
        ({"grid": {"max_epochs": [2]}}, "2 epochs end before the first validation, .* after 3"),
        ({"grid": {"batch_size": [1]}}, "one row in a training batch"),
    ],
)
def test_the_error_names_why_a_task_cannot_be_evaluated(tmp_path, change, message):
    with pytest.raises((TaskError, ConfigError), match=message):
        evaluate(write_scenes(tmp_path, **change), FLOAT32)


def test_events_without_a_score_of_their_own_need_one_postprocessing(tmp_path):
    folder = write_events(tmp_path, use_scoring_for_early_stopping=False)
    with pytest.raises(TaskError, match="one of its 2 settings of post-processing"):
        evaluate(folder, FLOAT32)


def test_a_score_that_is_not_finite_ends_training(tmp_path):
    """d' of classes that are separated perfectly is infinite, which cannot be exceeded."""
    grid = {**GRID, "hidden_layers": [0], "lr": [0.03], "max_epochs": [100]}
    kind = {"prediction_type": "multilabel", "evaluation": ["d_prime", "mAP"]}
    folder = write_scenes(tmp_path, OWN, noise=0.01, grid=grid, **kind)
    scores = evaluate(folder, FLOAT32)["test"]
    assert math.isinf(scores["validation_score"])
    assert scores["epoch"] < 99


def test_informative_columns_score_higher(tmp_path):
    folder = write_scenes(tmp_path, grid=GRID, noise=0.5)
    task = read_embedded_task(folder)
    task.embeddings[:, 6:] = torch.rand(len(task.embeddings), 6)
    good, bad = (
        evaluate_task(task.columns(index), FLOAT32).scores["aggregated_scores"]
        for index in (range(6), range(6, 12))
    )
    assert good["test_score_mean"] > bad["test_score_mean"] + 0.3


@pytest.mark.filterwarnings("ignore")  # of pandas
def test_folds_are_summed_up_as_by_pandas():
    pandas = pytest.importorskip("pandas")
    inf, nan = math.inf, math.nan
    rows = [(1.0, 2.0, inf, inf, 0.5, nan), (2.5, nan, -inf, nan, inf, nan), (3, 7, 1, inf, 1, 2)]
    folds = [dict(zip("abcdef", map(float, row), strict=True)) for row in rows]
    frame = pandas.DataFrame(folds)
    wanted = {}
    for name in frame:
        wanted |= {f"{name}_mean": frame[name].mean(), f"{name}_std": frame[name].std()}
    assert aggregate(folds) == pytest.approx(wanted, nan_ok=True)


def test_progress_ends_when_all_is_done(tmp_path):
    states = []
    evaluate(write_scenes(tmp_path, grid=GRID), FLOAT32, on_progress=states.append)
    shares = [state.done / state.of for state in states]
    assert states[0].of == 5
    assert shares[-1] == 1
    assert len(shares) > 10


@pytest.mark.parametrize("threads", [1, 3])
def test_groups_that_are_trained_side_by_side_give_the_same_scores(tmp_path, threads):
    task = read_embedded_task(write_scenes(tmp_path, grid=GRID))
    seen = []
    with torch_threads(threads):
        found = evaluate_task(task, FLOAT32, on_progress=seen.append)
        assert torch.get_num_threads() == threads
    with torch_threads(2):
        wanted = evaluate_task(task, FLOAT32)
    assert without_times(found.scores) == without_times(wanted.scores)
    assert seen[-1].done == pytest.approx(seen[-1].of)
    for fold, mine in found.predictions.items():
        np.testing.assert_array_equal(
            mine["prediction_logit"], wanted.predictions[fold]["prediction_logit"]
        )


def test_an_interruption_ends_the_groups_that_are_trained_beside(tmp_path):
    """Left alone, they would be trained for days."""
    endless = {**GRID, "max_epochs": [10**9], "patience": [10**9]}
    folder = write_scenes(tmp_path, noise=50, grid=endless)
    interrupted = count()

    def interrupt(progress):
        if next(interrupted) == 3:
            raise KeyboardInterrupt

    with torch_threads(2), pytest.raises(KeyboardInterrupt):
        evaluate_task(read_embedded_task(folder), FLOAT32, on_progress=interrupt)


def test_training_ends_once_all_that_are_left_are_beaten(tmp_path):
    task = read_embedded_task(write_scenes(tmp_path, noise=2.0))
    compute = predictors.choose_device_and_dtype("cpu", "float32")
    jobs = [Job(0, number, point) for number, point in enumerate([Hyperparameters()] * 2)]
    epochs = []
    found = training.train_together(
        task, jobs, protocol_of(task), compute, 42, epochs.append, lambda job: len(epochs) > 4
    )
    assert found == [None, None]
    assert len(epochs) == 6
