"""The grid of heareval: what is tried when a predictor is trained, and in which order.

Values are those of heareval 2021.1 (``task_predictions.py``). It searches the points that come
first after a shuffle, on the first fold, and trains on the others with the best of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hear_core.errors import ConfigError, unknown
from hear_eval.tasks.description import TaskDescription, TaskError

DEFAULT: dict[str, tuple[Any, ...]] = {
    "hidden_layers": (1, 2),
    "hidden_dim": (1024,),
    "dropout": (0.1,),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
    "patience": (20,),
    "max_epochs": (500,),
    "check_val_every_n_epoch": (3,),
    "batch_size": (1024,),
    "initialization": ("xavier_uniform_", "xavier_normal_"),
}
GRIDS = {
    "default": DEFAULT,
    "fast": {**DEFAULT, "max_epochs": (10, 50), "check_val_every_n_epoch": (3, 10)},
    "faster": {
        **DEFAULT,
        "hidden_layers": (0, 1),
        "hidden_dim": (64, 128),
        "patience": (1, 3),
        "max_epochs": (10,),
        "check_val_every_n_epoch": (1,),
    },
}
# What is always tried for a task, by its name.
_OF_TASK: dict[str, dict[str, tuple[Any, ...]]] = {
    "dcase2016_task2": {"check_val_every_n_epoch": (10,)}
}

# What heareval's grids have besides, always the same; written into results as it writes them.
CONSTANT = {
    "hidden_norm": "<class 'torch.nn.modules.batchnorm.BatchNorm1d'>",
    "norm_after_activation": False,
    "embedding_norm": "<class 'torch.nn.modules.linear.Identity'>",
    "optim": "<class 'torch.optim.adam.Adam'>",
}


class Point(NamedTuple):
    """How a predictor is trained.

    Args:
        hidden_layers: Number of hidden layers; with none, classes are a linear function.
        hidden_dim: Units in each.
        dropout: Share of the units that is left out at each step.
        lr: Rate of learning.
        patience: Validations without improvement after which training ends.
        max_epochs: Epochs after which it ends.
        check_val_every_n_epoch: Epochs from one validation to the next.
        batch_size: Rows in a step.
        initialization: Of weights: ``xavier_uniform_`` or ``xavier_normal_``.
    """

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    patience: int = 20
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    batch_size: int = 1024
    initialization: str = "xavier_uniform_"


def choose_points(
    description: TaskDescription, grid: str = "default", number: int = 8, seed: int = 42
) -> list[Point]:
    """Return the points that heareval chooses for a task, in its order.

    Args:
        description: Of the task; its metadata may change the grid.
        grid: A key of `GRIDS`.
        number: How many points; fewer are returned if the grid is smaller.
        seed: Of the shuffle; that of heareval is 42.

    Raises:
        ConfigError: There is no such grid, or a point is wanted of none.
        TaskError: The task wants of the grid what it does not have.
    """
    if grid not in GRIDS:
        raise ConfigError(unknown("grid", grid, GRIDS))
    if number < 1:
        msg = f"{number} grid points are too few; there must be one to train a predictor with"
        raise ConfigError(msg)
    own = description.metadata.get("evaluation_params", {}).get("task_specific_param_grid", {})
    fields: Mapping[str, Sequence[Any]] = (
        {**GRIDS[grid], **{name: [value] for name, value in CONSTANT.items()}}
        | _OF_TASK.get(description.name, {})
        | own
    )
    _check(own, f"{description.name}: its task_specific_param_grid")
    # The order of scikit-learn's ParameterGrid, and a shuffle that depends on its length only.
    names = sorted(fields)
    points = [
        Point(**{name: v for name, v in zip(names, values, strict=True) if name in Point._fields})
        for values in itertools.product(*(fields[name] for name in names))
    ]
    random.Random(seed).shuffle(points)  # noqa: S311  # it keeps no secret
    return points[:number]


def _check(own: Mapping[str, Any], whose: str) -> None:
    """Check what a task wants of the grid: known fields, and lists of what they may hold."""
    for name, values in own.items():
        default = DEFAULT.get(name)
        if default is None:
            msg = f"{whose} has {name!r}; known: {', '.join(DEFAULT)}"
            raise TaskError(msg)
        numbers = (int, float) if isinstance(default[0], float) else (type(default[0]),)
        if not (isinstance(values, list) and values and all(type(v) in numbers for v in values)):
            msg = f"{whose} has {values!r} for {name}, which is no list of it"
            raise TaskError(msg)
        least = 0 if name in ("hidden_layers", "dropout") else 1e-12
        if name == "initialization":
            wrong = [v for v in values if v not in DEFAULT[name]]
        else:
            wrong = [v for v in values if v < least or (name == "dropout" and v >= 1)]
        if wrong:
            msg = f"{whose} has {wrong[0]!r} for {name}"
            raise TaskError(msg)


def hparams(point: Point) -> dict[str, Any]:
    """Return a point as heareval writes it into its results."""
    named = {"initialization": f"<function {point.initialization}>"}
    return dict(sorted({**point._asdict(), **CONSTANT, **named}.items()))
