"""Options of the training loop: accumulation, averages, early stopping, best checkpoints, locks."""

import dataclasses
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from hear_core.errors import ConfigError
from hear_core.io.files import exclusive_lock
from hear_train.batch import Batch, Targets
from hear_train.loop.logs import read_log
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.objective import Objective
from tests.goldens.arrays import arrays

CONFIG = TrainerConfig(
    epochs=4,
    steps_per_epoch=2,
    optimiser=OptimiserConfig(name="sgd", lr=0.1, momentum=0.0),
    schedule=Schedule(0, 9, 9),
    grad_clip=0,
    save_every=100,
)


class Rows(torch.utils.data.Dataset):
    """Batches of consecutive rows of a fixed table."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.table = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, step):
        first = step * self.batch_size % len(self.table)
        rows = self.table[first : first + self.batch_size]
        return Batch(step, rows, Targets(rows.sum(1, keepdim=True)))


class Line(Objective):
    """Linear regression."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 1)

    def forward(self, batch):
        return {"loss": (self.network(batch.waveform) - batch.targets.weak).square().mean()}


class Scores:
    """An evaluator that returns given scores one after another."""

    main = "score"

    def __init__(self, scores):
        self.scores = iter(scores)

    def __call__(self, network):
        return {"score": next(self.scores)}


def train(folder, batch_size=4, **options):
    changes = {k: options.pop(k) for k in list(options) if hasattr(CONFIG, k)}
    config = dataclasses.replace(CONFIG, **changes)
    objective = Line()
    trainer = Trainer(objective, Rows(batch_size), config, folder, Accelerator(cpu=True), **options)
    return objective, trainer


def test_accumulated_batches_are_one_large_batch(tmp_path):
    whole, run = train(tmp_path / "whole", 8)
    run.run()
    parts, run = train(tmp_path / "parts", 4, accumulate=2)
    run.run()
    torch.testing.assert_close(parts.network.weight, whole.network.weight)


def test_the_average_of_the_weights_is_saved_and_training_goes_its_own_way(tmp_path):
    saved = []

    def save(path, network, metrics):
        saved.append(network.weight.detach().clone())

    objective, run = train(tmp_path / "average", ema=0.5, save=save)
    weights, average = [], objective.network.weight.detach().clone()
    run.run(lambda step, terms: weights.append(objective.network.weight.detach().clone()))
    for weight in weights:
        average = 0.5 * average + 0.5 * weight
    torch.testing.assert_close(saved[-1], average)
    torch.testing.assert_close(objective.network.weight, weights[-1])
    plain, run = train(tmp_path / "plain")
    run.run()
    assert torch.equal(plain.network.weight, objective.network.weight)


@pytest.mark.parametrize("end", [3, 5])
def test_an_average_survives_an_interruption(tmp_path, end):
    def run(folder, stop):
        saved = []
        _, trainer = train(
            folder,
            ema=0.5,
            save_every=1,
            save=lambda path, net, m: saved.append(net.weight.clone()),
        )

        def kill(step, terms):
            if step == stop:
                raise KeyboardInterrupt

        if stop:
            with pytest.raises(KeyboardInterrupt):
                trainer.run(kill)
            return run(folder, 0)
        trainer.run()
        return saved[-1]

    assert torch.equal(run(tmp_path / "killed", end), run(tmp_path / "whole", 0))


def test_the_best_checkpoint_and_early_stopping(tmp_path):
    saved = []

    def save(path, network, metrics):
        saved.append((path.name, dict(metrics)))

    scores = Scores([0.5, 0.7, 0.6, 0.7])
    _, run = train(tmp_path, epochs=20, patience=2, evaluator=scores, save=save)
    best = run.run()
    assert best == tmp_path / "best.safetensors"
    assert run.position.step == 8
    assert run.position.best == {"score": 0.7}
    names = ["best.safetensors", "best.safetensors", "last.safetensors"]
    assert [name for name, _ in saved] == names
    found = [row["score"] for row in read_log(tmp_path / "log.csv") if "score" in row]
    assert found == [0.5, 0.7, 0.6, 0.7]
    _, again = train(tmp_path, epochs=20, patience=2, evaluator=scores, save=save)
    again.run()  # it has ended, and validates no more
    assert again.position.step == 8


def test_hooks_run_at_every_epoch_and_after_a_resumption(tmp_path):
    seen = []
    _, run = train(tmp_path, on_epoch=[seen.append])
    run.run()
    assert seen == [0, 1, 2, 3]


def test_a_folder_that_is_trained_in_is_locked(tmp_path):
    _, run = train(tmp_path)
    lock = exclusive_lock(Path(tmp_path) / "run", "")
    with lock, pytest.raises(ConfigError, match=r"another process is writing .* wait until"):
        run.run()
    run.run()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimisers_lower_the_loss(tmp_path, name):
    losses = []
    _, run = train(tmp_path, epochs=8, optimiser=OptimiserConfig(name=name, lr=0.1), batch_size=4)
    run.run(lambda step, terms: losses.append(terms["loss"]))
    assert losses[-1] < 0.7 * losses[0]


def test_learning_rates_of_a_run_are_those_of_efficientat(tmp_path):
    """Set at the beginning of every epoch, as the original's scheduler does."""
    optimiser, found = OptimiserConfig(name="adam", lr=8e-4), []
    schedule = Schedule(8, 80, 95, 0.01)
    _, run = train(tmp_path, epochs=200, steps_per_epoch=2, optimiser=optimiser, schedule=schedule)
    run.run(lambda step, terms: found.append(run._plain_optimiser.param_groups[0]["lr"]))
    assert found[::2] == found[1::2]
    expected = arrays("train/efficientat")["lr_used_audioset"]
    assert found[::2] == pytest.approx(expected.tolist(), rel=1e-9)


@pytest.mark.parametrize(
    "content", ["loss\n1\n", "step,step\n1,2\n", "step,loss\n1\n", "step\na\n", "step,loss\n,1\n"]
)
def test_a_damaged_log_is_refused(tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"log\.csv is damaged: .* Delete it"):
        read_log(tmp_path / "log.csv")


def test_a_log_whose_first_line_is_incomplete_is_empty(tmp_path):
    (tmp_path / "log.csv").write_text("step,lo")
    assert read_log(tmp_path / "log.csv") == []
