"""Mixed precision, and a GPU without memory."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from hear_core.errors import ConfigError
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.trainer import Trainer, TrainerConfig
from tests.hear_train.loop.test_options import Line, Rows

CONFIG = TrainerConfig(
    epochs=6,
    steps_per_epoch=4,
    save_every=4,
    log_every=4,
    optimiser=OptimiserConfig(lr=0.05),
    schedule=Schedule(name="constant"),
)


@pytest.fixture
def half():
    """An accelerator that computes in bfloat16; its state is global."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


class Recorder(Line):
    """Linear regression that records the type that it is computed in."""

    def __init__(self):
        super().__init__()
        self.kinds = set()
        self.network.register_forward_hook(lambda module, args, out: self.kinds.add(out.dtype))

    def forward(self, batch):
        predicted = self.network(batch.waveform).float()
        return {"loss": (predicted - batch.targets.weak).square().mean()}


def run(folder, accelerator, stop=0):
    objective, losses = Recorder(), []
    trainer = Trainer(objective, Rows(4), CONFIG, folder, accelerator)

    def report(step, terms):
        losses.append(terms["loss"])
        if step == stop:
            raise KeyboardInterrupt

    if stop:
        with pytest.raises(KeyboardInterrupt):
            trainer.run(report)
    else:
        trainer.run(report)
    return objective, losses


def test_mixed_precision_computes_in_bfloat16_and_keeps_weights_in_float32(tmp_path, half):
    objective, losses = run(tmp_path / "whole", half)
    assert objective.kinds == {torch.bfloat16}
    assert {p.dtype for p in objective.parameters()} == {torch.float32}
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    run(tmp_path / "killed", half, stop=7)
    resumed, _ = run(tmp_path / "killed", half)
    assert torch.equal(resumed.network.weight, objective.network.weight)


def test_a_run_is_not_resumed_in_another_precision(tmp_path):
    run(tmp_path, Accelerator(cpu=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.raises(ConfigError, match='precision is "no" there and "bf16" here'):
            run(tmp_path, Accelerator(mixed_precision="bf16", cpu=True))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_gpu_without_memory_is_explained(tmp_path):
    class Large(Line):
        def forward(self, batch):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    trainer = Trainer(Large(), Rows(4), CONFIG, tmp_path, Accelerator(cpu=True))
    message = (
        r"the GPU is out of memory: use a smaller data\.batch_size, and trainer\.accumulate .*"
        r"\(CUDA out of memory\. Tried to allocate 9 GiB\)$"
    )
    with pytest.raises(ConfigError, match=message):
        trainer.run()
