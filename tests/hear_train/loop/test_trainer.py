"""The training loop: it resumes exactly after any interruption, and records what it did."""

import json
import shutil
import sys

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from hear_core.errors import ConfigError
from hear_train.batch import Batch, Targets
from hear_train.loop.logs import CsvLog, read_log
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.states import last_state
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.objective import Objective

CONFIG = TrainerConfig(
    epochs=3,
    steps_per_epoch=4,
    optimiser=OptimiserConfig(lr=0.01),
    schedule=Schedule(1, 1, 2),
    save_every=5,
    log_every=2,
    seed=7,
)


class Numbers(torch.utils.data.Dataset):
    """Batches of random numbers, by step."""

    batch_size = 4

    def __getitem__(self, step):
        waveform = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        skipped = {"corrupt.wav": "no audio"} if step % 2 else {}
        return Batch(step, waveform, Targets(waveform[:, :2].sigmoid()), skipped=skipped)


class Course(Objective):
    """An objective that draws at random itself, and has a batch norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    @property
    def network(self):
        return self.layers

    def forward(self, batch):
        return {"loss": (self.layers(batch.waveform) - batch.targets.weak).square().mean()}


class KilledError(Exception):
    """The end of the process."""


def trainer(folder, config=CONFIG, **options):
    module = Course()
    return module, Trainer(module, Numbers(), config, folder, Accelerator(cpu=True), **options)


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    module, run = trainer(folder)
    run.run()
    return state(module), read_log(folder / "log.csv")


@pytest.mark.parametrize("end", [3, 5, 7, 11])
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path, uninterrupted, end):
    def kill(step, values):
        if step == end:
            raise KilledError

    _, run = trainer(tmp_path)
    with pytest.raises(KilledError):
        run.run(kill)
    module, run = trainer(tmp_path)
    assert run.position.step == end - end % 5 - (5 if end % 5 == 0 else 0)
    run.run()
    weights, log = uninterrupted
    for key, value in module.state_dict().items():
        assert torch.equal(value, weights[key]), key
    timeless = [{k: v for k, v in r.items() if k != "clips_per_second"} for r in log]
    found = read_log(tmp_path / "log.csv")
    assert [{k: v for k, v in r.items() if k != "clips_per_second"} for r in found] == timeless


def test_workers_make_the_same_batches(tmp_path, uninterrupted):
    module, run = trainer(tmp_path, workers=1)
    run.run()
    assert all(torch.equal(v, uninterrupted[0][k]) for k, v in module.state_dict().items())


def test_the_steps_are_those_of_adamw(tmp_path):
    """The same loop, written out."""
    config = TrainerConfig(
        epochs=2,
        steps_per_epoch=3,
        schedule=Schedule(0, 1, 1, 0.5),
        optimiser=OptimiserConfig(lr=0.01, weight_decay=0.1),
        grad_clip=0,
    )
    module, run = trainer(tmp_path, config)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    reference = Course()
    reference.load_state_dict(module.state_dict())
    reference.layers[2].p = 0.0
    run.run()
    optimiser = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.1)
    batches = Numbers()
    for step in range(6):
        optimiser.param_groups[0]["lr"] = 0.01  # both epochs are before the fall
        optimiser.zero_grad()
        reference(batches[step])["loss"].backward()
        optimiser.step()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_curves_for_tensorboard(tmp_path, uninterrupted):
    """Importing tensorboard takes longer than everything else here."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path, logs=["tensorboard"])[1].run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    expected = [(row["step"], pytest.approx(row["loss"])) for row in uninterrupted[1]]
    assert found == expected


def test_logged_values(tmp_path):
    _, run = trainer(tmp_path)
    losses = []
    run.run(lambda step, values: losses.append(values["loss"]))
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    means = [sum(pair) / 2 for pair in zip(losses[::2], losses[1::2], strict=True)]
    assert [row["loss"] for row in rows] == pytest.approx(means)
    assert [row["lr"] for row in rows][::2] == pytest.approx([0.01 * x for x in RATES])
    assert rows[-1]["skipped"] == 1
    assert run.position.skipped == {"corrupt.wav": "no audio"}
    assert [path.name for path in tmp_path.glob("state*")] == ["state-00000012"]


RATES = [0.28650479686019, 1.0, 0.505]


def test_a_folder_has_one_run(tmp_path):
    trainer(tmp_path, settings={"batch": 4})
    with pytest.raises(ConfigError, match="batch is 4 there and 8 here"):
        trainer(tmp_path, settings={"batch": 8})
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written == {"batch": 4, "precision": "no", "processes": 1}
    with pytest.raises(ConfigError, match="unknown log 'tensorbord'; did you mean 'tensorboard'"):
        trainer(tmp_path, settings={"batch": 4}, logs=["tensorbord"])[1].run()


def test_terms_that_some_steps_lack_are_averaged_over_the_others(tmp_path):
    class Partly(Course):
        def forward(self, batch):
            found = super().forward(batch)
            if batch.step % 2:
                found["labels"] = torch.tensor(0.5)
            return found

    run = Trainer(Partly(), Numbers(), CONFIG, tmp_path, Accelerator(cpu=True))
    run.run()
    assert [row["labels"] for row in read_log(tmp_path / "log.csv")] == [0.5] * 6


class FakeWandb:
    """A replacement of the package that records its calls."""

    def __init__(self):
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.started.append(options)
        return self

    def log(self, values, step):
        self.logged.append((step, values["loss"]))

    def finish(self):
        self.finished += 1


def test_weights_and_biases_knows_a_run_again(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def kill(step, values):
        if step == 7:
            raise KilledError

    for name in ("one/run", "two/run"):
        with pytest.raises(KilledError):
            trainer(tmp_path / name, logs=["wandb"])[1].run(kill)
        trainer(tmp_path / name, logs=["wandb"])[1].run()
    first, again, second, _ = (options["id"] for options in fake.started)
    assert first == again != second
    assert {options["name"] for options in fake.started} == {"run"}
    assert fake.finished == 4
    rows = read_log(tmp_path / "two" / "run" / "log.csv")
    assert fake.logged[-3:] == [(row["step"], row["loss"]) for row in rows[-3:]]


@pytest.mark.parametrize("name", ["epochs", "steps_per_epoch", "save_every", "log_every"])
def test_settings_out_of_range(name):
    with pytest.raises(ConfigError, match=f"{name} is 0; the least is 1"):
        TrainerConfig(**{name: 0})
    with pytest.raises(ConfigError, match="seed is -1"):
        TrainerConfig(seed=-1)


def test_a_state_that_was_not_finished_is_not_taken(tmp_path):
    (tmp_path / "state-00000003").mkdir()
    (tmp_path / "state-00000009.part").mkdir()
    assert last_state(tmp_path) == tmp_path / "state-00000003"
    assert last_state(tmp_path / "gone") is None


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    module, run = trainer(tmp_path)
    nn.init.constant_(module.layers[0].weight, float("nan"))
    with pytest.raises(ConfigError, match="not a finite number after step 1"):
        run.run()


def test_a_row_with_a_new_column_rewrites_the_table(tmp_path):
    log = CsvLog(tmp_path, 0)
    log.write(1, {"loss": 2.0})
    log.write(2, {"loss": 1.0, "labels": 3.0})
    assert read_log(tmp_path / "log.csv")[1] == {"step": 2, "loss": 1, "labels": 3}


STATES = {
    "position is a string": lambda state: state.update(position="far"),
    "position is a list": lambda state: state.update(position=[1]),
    "step -5": lambda state: state["position"].update(step=-5),
    "step of another state": lambda state: state["position"].update(step=7),
    "step is true": lambda state: state["position"].update(step=True),
    "strings in sums": lambda state: state["position"].update(sums={"loss": "1"}),
    "sums without counts": lambda state: state["position"].update(sums={"x": 1.0}),
    "counts of zero": lambda state: state["position"]["counts"].update(loss=0),
    "reasons that are numbers": lambda state: state["position"].update(skipped={"a": 1}),
    "metrics that are lists": lambda state: state["position"].update(metrics={"a": []}),
    "no best": lambda state: state["position"].pop("best"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    trainer(folder)[1].run()
    return folder


@pytest.mark.parametrize("kind", STATES)
def test_a_state_with_wrong_values_is_refused(tmp_path, stopped, kind):
    shutil.copytree(stopped, tmp_path / "run")
    file = last_state(tmp_path / "run") / "state.json"
    state = json.loads(file.read_text())
    STATES[kind](state)
    file.write_text(json.dumps(state))
    with pytest.raises(ConfigError, match=r"state-0000\d+: the state of the run .*Delete this fol"):
        trainer(tmp_path / "run")


@pytest.mark.parametrize(("name", "kind"), [("weights", "NaN"), ("optimiser", "missing")])
def test_damaged_tensors_of_a_state(tmp_path, stopped, name, kind):
    shutil.copytree(stopped, tmp_path / "run")
    file = last_state(tmp_path / "run") / f"{name}.safetensors"
    tensors = load_file(file)
    if kind == "NaN":
        tensors["layers.0.weight"].fill_(float("nan"))
    else:
        del tensors["layers.0.bias/exp_avg_sq"]
    save_file(tensors, file)
    values = json.loads((file.parent / "state.json").read_text())
    del values["sha256"]  # as in states of earlier versions
    (file.parent / "state.json").write_text(json.dumps(values))
    with pytest.raises(
        ConfigError, match=r"not made of finite numbers|incomplete state of layers.0"
    ):
        trainer(tmp_path / "run")


def test_a_changed_bit_of_a_state_is_found(tmp_path, stopped):
    shutil.copytree(stopped, tmp_path / "run")
    file = last_state(tmp_path / "run") / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"weights\.safetensors is damaged: its checksum"):
        trainer(tmp_path / "run")


def test_other_folders_beside_the_states_are_ignored(tmp_path, stopped):
    shutil.copytree(stopped, tmp_path / "run")
    before = last_state(tmp_path / "run")
    (tmp_path / "run/state-of-the-art").mkdir()
    assert last_state(tmp_path / "run") == before
