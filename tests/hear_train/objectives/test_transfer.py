"""Transfer of a network to other classes, against Transfer_Cnn14 of PANNs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_core.networks.panns import Panns
from hear_train.batch import Targets
from hear_train.objectives.supervised import LOSSES, Supervised
from tests import goldens
from tests.goldens.fill import fill_tensor

GOLDEN = goldens.arrays("train/panns")


def test_the_loss_is_that_of_the_log_softmax_of_the_original():
    """Its output, the negative log-likelihood, and the gradients of the new layer."""
    layer = torch.nn.Linear(2048, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(fill_tensor("fc_transfer.weight", (10, 2048))))
        layer.bias.copy_(torch.as_tensor(fill_tensor("fc_transfer.bias", (10,))))
    logits = layer(torch.as_tensor(GOLDEN["transfer_embedding"]))
    goldens.assert_close(
        logits.detach().log_softmax(1), GOLDEN["transfer_output"], atol=1e-5, rtol=1e-5
    )
    weak = torch.eye(10)[torch.as_tensor(GOLDEN["transfer_labels"])]
    loss = LOSSES["ce"](logits, Targets(weak)).mean()
    assert loss.item() == pytest.approx(float(GOLDEN["transfer_nll"]), rel=1e-6)
    loss.backward()
    np.testing.assert_allclose(layer.bias.grad.numpy(), GOLDEN["transfer_bias_grad"], atol=1e-6)
    norm = float(layer.weight.grad.norm())
    assert norm == pytest.approx(float(GOLDEN["transfer_weight_grad_norm"]), rel=1e-5)


def test_a_frozen_network_trains_its_last_layer_only():
    """As freeze_base of the original, but statistics and dropouts of the base stay as well."""
    objective = Supervised(Panns("cnn6", num_classes=4), "ce")
    objective.freeze_backbone()
    objective.train()
    trained = [name for name, p in objective.named_parameters() if p.requires_grad]
    theirs = [
        name.replace("fc_transfer", "fc_audioset") for name in GOLDEN["transfer_frozen_trainable"]
    ]
    assert sorted(trained) == sorted(f"network.{name}" for name in theirs)
    assert objective.training
    assert not any(module.training for module in objective.network.modules())
    (group,) = objective.parameter_groups(1e-3)
    assert len(group["params"]) == 2
