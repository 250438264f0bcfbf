"""Training of audio networks: recipes as data, and a loop that resumes to the bit.

Modules follow the way of the data: `data` (clips, data sets, samplers, batches), `augment`,
`preprocessing` (log-mels and live teachers), `objectives` (losses and teachers), `loop` (trainer,
optimisers, schedules, logs), `evaluation` (metrics), and `recipes`, which builds a run from a YAML
file. `agreement` compares a student with its teacher, and `selection` picks sounds to train on.
"""

from hear_train.batch import Batch, BatchSource, Targets
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.recipes import Recipe, build, list_recipes, load_recipe

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
