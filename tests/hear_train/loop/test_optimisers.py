"""Parameter groups, and optimisers against those of PyTorch."""

import re

import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_sed.zoo import ZOO as DETECTORS
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.objectives.objective import Objective, block_parameters
from hear_train.objectives.supervised import Supervised
from tests.goldens.arrays import facts


class Whole(Objective):
    """An objective without a loss."""

    def __init__(self, network):
        super().__init__()
        self.network = network


def learning_rates(objective, **options):
    """Return the learning rate of every parameter of the network, by name."""
    groups = objective.parameter_groups(**options)
    by_parameter = {id(p): group["max_lr"] for group in groups for p in group["params"]}
    names = {name: id(p) for name, p in objective.network.named_parameters()}
    return {name: by_parameter[key] for name, key in names.items() if key in by_parameter}


def test_layer_wise_learning_rates():
    network = ZOO.random_init("mn01_as")
    found = learning_rates(Supervised(network), lr=1.0, head_lr=5.0, layer_decay=0.9)
    for name, value in found.items():
        part, number = name.split(".")[:2]
        expected = 5.0 if part == "classifier" else 0.9 ** (16 - int(number))
        assert value == pytest.approx(expected)
    frozen = Supervised(ZOO.random_init("mn01_as"))
    frozen.parameter_groups(1.0, frozen=("network.features.*",))
    left = {name.split(".")[1] for name, p in frozen.named_parameters() if p.requires_grad}
    assert left == {"classifier"}


def test_learning_rates_of_a_detector_are_those_of_efficientsed():
    """The backbone has rates of its own by block, and sequence model and heads another one."""
    cases = facts("train/efficientsed_param_groups")["cases"]
    for network, name in (("fmn04", "fmn04"), ("fmn04+tf:104", "fmn04+tf-104")):
        case = cases[
            f'{name} {{"weight_decay": 0.0, "lr": 0.003, "seq_lr": 0.0008, "lr_decay": 0.9}}'
        ]
        objective = Whole(DETECTORS[network].skeleton())
        found = learning_rates(objective, lr=3e-3, head_lr=8e-4, layer_decay=0.9)
        expected = {key: lr for key, (lr, _, _) in case["parameters"].items() if "freqs" not in key}
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-9)


def test_patches_count_to_the_first_block_of_a_transformer():
    network = DETECTORS["BEATs"].skeleton()
    names = {id(p): name for name, p in network.named_parameters()}
    blocks = [[names[id(p)] for p in block] for block in block_parameters(network)]
    assert len(blocks) == 12
    assert "model.beats.patch_embedding.weight" in blocks[0]
    for depth, block in enumerate(blocks[1:], 1):
        assert {re.search(r"layers\.(\d+)\.", name)[1] for name in block} == {str(depth)}


def test_a_network_without_blocks_has_one():
    network = nn.Linear(3, 1)
    assert [len(block) for block in block_parameters(network)] == [2]


def test_learning_rates_by_name():
    lrs = {"network.classifier.5.*": 7.0, "network.classifier.*": 3.0}
    found = learning_rates(Supervised(ZOO.random_init("mn01_as")), lr=1.0, lrs=lrs)
    assert {v for k, v in found.items() if k.startswith("features")} == {1.0}
    assert {v for k, v in found.items() if k.startswith("classifier.5")} == {7.0}
    assert {v for k, v in found.items() if k.startswith("classifier.2")} == {3.0}
    with pytest.raises(ConfigError, match="lrs: 'clf' does not match any parameter"):
        Supervised(ZOO.random_init("mn01_as")).parameter_groups(1.0, lrs={"clf": 1.0})


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_its_options(name, amsgrad):
    ours, theirs = (nn.Linear(4, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    config = OptimiserConfig(
        name, 0.1, weight_decay=0.2, decay_vectors=False, betas=(0.8, 0.7), amsgrad=amsgrad
    )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0}]
    optimisers = [
        config.build([{"params": list(ours.parameters()), "max_lr": 0.1}]),
        kind(groups, lr=0.1, betas=(0.8, 0.7), weight_decay=0.2, amsgrad=amsgrad),
    ]
    for step in range(5):
        scale = 5.0 if step == 1 else 0.1  # so that the largest second moment is an earlier one
        batch = scale * torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        for module, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            module(batch).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 1.0)}, "betas must be at least 0 and less than 1"),
        ({"lrs": {"a.*": -1.0}}, r"lrs a\.\* of the optimiser is -1"),
        ({"head_lr": float("nan")}, "head_lr of the optimiser is nan"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        OptimiserConfig(**options)
