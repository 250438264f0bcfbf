from __future__ import annotations

import random

import pytest

from hear_core.errors import ConfigError
from hear_eval.downstream.grid import GRIDS, Hyperparameters, as_heareval, choose_hyperparameters
from hear_eval.tasks.description import TaskDescription, TaskError


def task(name="barks", **own):
    metadata = {"evaluation_params": {"task_specific_param_grid": own}} if own else {}
    return TaskDescription(name, "scene", "multiclass", (), (), (), None, (), metadata)


def chosen_by_heareval(grid, seed, name="barks", own=None):
    """The lines of heareval's task_predictions that make the points, since it has no function."""
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    grids = {
        "default": oracle.PARAM_GRID,
        "fast": oracle.FAST_PARAM_GRID,
        "faster": oracle.FASTER_PARAM_GRID,
    }
    fields = grids[grid] | oracle.TASK_SPECIFIC_PARAM_GRID.get(name, {}) | (own or {})
    oracle.seed_everything(seed, workers=False)
    points = list(oracle.ParameterGrid(fields))
    random.shuffle(points)
    return [oracle.hparams_to_json(point) for point in points]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("seed", [42, 7])
def test_the_points_are_those_of_heareval(grid, seed):
    wanted = chosen_by_heareval(grid, seed)
    for number in (3, 1000):
        found = [as_heareval(point) for point in choose_hyperparameters(task(), grid, number, seed)]
        assert len(found) == min(number, len(wanted))
        for mine, theirs in zip(found, wanted, strict=False):
            theirs["initialization"] = theirs["initialization"].split(" at 0x")[0].rstrip(">") + ">"
            assert mine == theirs


def test_a_task_may_change_the_grid():
    own = {"max_epochs": [6, 12], "lr": [0.01]}
    found = choose_hyperparameters(task("dcase2016_task2", **own), number=100, seed=1)
    wanted = chosen_by_heareval("default", 1, "dcase2016_task2", own)
    assert [(p.hidden_layers, p.max_epochs, p.check_val_every_n_epoch) for p in found] == [
        (p["hidden_layers"], p["max_epochs"], p["check_val_every_n_epoch"]) for p in wanted
    ]
    assert all(point.check_val_every_n_epoch == 10 for point in found)


@pytest.mark.parametrize(
    "own",
    [
        {"layers": [1]},
        {"lr": 0.1},
        {"lr": []},
        {"lr": [0]},
        {"lr": ["fast"]},
        {"hidden_layers": [1.5]},
        {"dropout": [1.0]},
        {"batch_size": [0]},
        {"initialization": ["zeros_"]},
        {"hidden_norm": ["LayerNorm"]},
    ],
)
def test_a_grid_that_cannot_be_is_refused(own):
    with pytest.raises(TaskError, match=rf"^barks: .*{next(iter(own))}"):
        choose_hyperparameters(task(**own))


def test_unknown_grids_are_refused():
    with pytest.raises(ConfigError, match=r"unknown grid 'slow'"):
        choose_hyperparameters(task(), "slow")
    with pytest.raises(ConfigError, match="number of grid points must be at least 1"):
        choose_hyperparameters(task(), number=0)


def test_a_point_by_itself_is_one_of_the_grid():
    assert Hyperparameters() in choose_hyperparameters(task(), number=1000)
