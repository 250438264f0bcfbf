"""Training of audio networks: recipes as data, and a loop that resumes to the bit.

Modules follow the way of the data: `data` (clips, data sets, samplers, batches), `augment`,
`preprocessing` (log-mels and live teachers), `objectives` (losses and teachers), `loop` (trainer,
optimisers, schedules, logs), `evaluation` (metrics), `recipes` (experiments as YAML files), and
`runs` (what a recipe describes, built). `agreement` compares a student with its teacher, and
`selection` picks sounds to train on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hear_core.lazy_attributes import lazy_attributes

if TYPE_CHECKING:
    from hear_train.batch import Batch, BatchSource, Targets
    from hear_train.loop.trainer import Trainer, TrainerConfig
    from hear_train.recipe_files import list_recipes
    from hear_train.recipes import Recipe, load_recipe
    from hear_train.runs import build

__all__ = [
    "Batch",
    "BatchSource",
    "Recipe",
    "Targets",
    "Trainer",
    "TrainerConfig",
    "build",
    "list_recipes",
    "load_recipe",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Batch": "hear_train.batch",
        "BatchSource": "hear_train.batch",
        "Targets": "hear_train.batch",
        "Trainer": "hear_train.loop.trainer",
        "TrainerConfig": "hear_train.loop.trainer",
        "Recipe": "hear_train.recipes",
        "build": "hear_train.runs",
        "list_recipes": "hear_train.recipe_files",
        "load_recipe": "hear_train.recipes",
    },
)
