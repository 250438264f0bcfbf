"""The grid of hyperparameters of heareval, and the order in which its points are tried.

Values are those of heareval 2021.1 (``task_predictions.py``). It tries the first points after a
shuffle on the first fold, and trains on the other folds with the best of them.
"""

from __future__ import annotations

import itertools
import math
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
# Values that replace those of the grid, by the name of the task.
_OF_TASK: dict[str, dict[str, tuple[Any, ...]]] = {
    "dcase2016_task2": {"check_val_every_n_epoch": (10,)}
}

# Further fields of heareval's grids, which have one value; written into results as it writes them.
CONSTANT = {
    "hidden_norm": "<class 'torch.nn.modules.batchnorm.BatchNorm1d'>",
    "norm_after_activation": False,
    "embedding_norm": "<class 'torch.nn.modules.linear.Identity'>",
    "optim": "<class 'torch.optim.adam.Adam'>",
}


class Hyperparameters(NamedTuple):
    """Hyperparameters of a predictor.

    Args:
        hidden_layers: Number of hidden layers; 0 is a linear classifier.
        hidden_dim: Number of units in a hidden layer.
        dropout: Dropout probability.
        lr: Learning rate.
        patience: Number of validations without improvement after which training ends.
        max_epochs: Largest number of epochs.
        check_val_every_n_epoch: Number of epochs from one validation to the next.
        batch_size: Number of rows in a batch.
        initialization: Initialisation of weights: ``xavier_uniform_`` or ``xavier_normal_``.
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


def choose_hyperparameters(
    description: TaskDescription, grid: str = "default", number: int = 8, seed: int = 42
) -> list[Hyperparameters]:
    """Return the points of a grid that heareval tries for a task, in its order.

    Args:
        description: Description of the task, whose metadata may change the grid.
        grid: A key of `GRIDS`.
        number: Number of points; fewer are returned if the grid is smaller.
        seed: Seed of the shuffle; heareval uses 42.

    Raises:
        ConfigError: The grid is unknown, or the number of points is not positive.
        TaskError: The metadata of the task have an unknown field or an invalid value for the grid.
    """
    if grid not in GRIDS:
        raise ConfigError(unknown("grid", grid, GRIDS))
    if number < 1:
        msg = f"the number of grid points must be at least 1, but is {number}"
        raise ConfigError(msg)
    own = description.metadata.get("evaluation_params", {}).get("task_specific_param_grid", {})
    _check(own, f"{description.name}: its task_specific_param_grid")
    fields: Mapping[str, Sequence[Any]] = (
        {**GRIDS[grid], **{name: [value] for name, value in CONSTANT.items()}}
        | _OF_TASK.get(description.name, {})
        | own
    )
    # The order of scikit-learn's ParameterGrid, and a shuffle that depends on its length only.
    names = sorted(fields)
    points = [
        Hyperparameters(
            **{
                name: v
                for name, v in zip(names, values, strict=True)
                if name in Hyperparameters._fields
            }
        )
        for values in itertools.product(*(fields[name] for name in names))
    ]
    random.Random(seed).shuffle(points)  # noqa: S311  # that of heareval
    return points[:number]


def _check(own: Mapping[str, Any], whose: str) -> None:
    """Check the values of a task for the grid."""
    if not isinstance(own, Mapping):
        msg = f"{whose} is {own!r}, which is not an object"
        raise TaskError(msg)
    for name, values in own.items():
        default = DEFAULT.get(name)
        if default is None:
            msg = f"{whose} has {name!r}; known: {', '.join(DEFAULT)}"
            raise TaskError(msg)
        numbers = (int, float) if isinstance(default[0], float) else (type(default[0]),)
        if not (isinstance(values, list) and values and all(type(v) in numbers for v in values)):
            msg = f"{whose} has {values!r} for {name}, which is not a list of its values"
            raise TaskError(msg)
        least = 0 if name in ("hidden_layers", "dropout") else 1e-12
        if name == "initialization":
            wrong = [v for v in values if v not in DEFAULT[name]]
        else:
            most = 1 if name == "dropout" else math.inf
            wrong = [v for v in values if not least <= v < most]
        if wrong:
            msg = f"{whose} has {wrong[0]!r} for {name}"
            raise TaskError(msg)


def as_heareval(point: Hyperparameters) -> dict[str, Any]:
    """Return hyperparameters as heareval writes them into its results."""
    named = {"initialization": f"<function {point.initialization}>"}
    return dict(sorted({**point._asdict(), **CONSTANT, **named}.items()))
