from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_eval.downstream import predictors as predictors_module
from hear_eval.downstream.grid import Hyperparameters
from hear_eval.downstream.predictors import (
    DeviceAndDtype,
    Loss,
    Predictors,
    choose_device_and_dtype,
)

INPUTS, CLASSES, DROPOUT = 7, 4, 0.3
FLOAT32 = DeviceAndDtype(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def _one_thread():
    """Use one thread: matrices this small are slower with more, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class GivenDropout(nn.Module):
    """Dropout with a given mask."""

    def forward(self, x):
        return x * self.mask / (1 - DROPOUT) if self.training else x


def plain_model(predictors, number):
    """The same perceptron made of torch modules, in the order of heareval."""
    modules = []
    for layer in predictors._layers:
        linear = nn.Linear(layer.weight.shape[2], layer.weight.shape[1])
        modules.append(linear)
        linear.weight.data = layer.weight[number].clone()
        if layer.scale.numel():
            # Rounding makes Adam move a bias that has no gradient.
            linear.bias.data = layer.bias[number].clone()
            linear.bias.requires_grad_(False)
            modules += [nn.BatchNorm1d(layer.weight.shape[1]), GivenDropout(), nn.ReLU()]
        else:
            linear.bias.data = layer.shift[number].clone()
    return nn.Sequential(*modules)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("multiclass", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_training_is_that_of_torch_one_by_one(layers, multiclass, shared):
    """One predictor is dropped during training, and batches have different sizes."""
    generator = torch.Generator().manual_seed(0)
    rates = [1e-2, 1e-3, 3e-3]
    points = [Hyperparameters(layers, 16, DROPOUT, rate) for rate in rates]
    predictors = Predictors(points, INPUTS, CLASSES, [1, 2, 3], FLOAT32)
    models = [plain_model(predictors, number) for number in range(3)]
    optimizers = [
        torch.optim.Adam(model.parameters(), lr) for model, lr in zip(models, rates, strict=True)
    ]
    loss = Loss(multiclass=multiclass)
    plain_loss = nn.CrossEntropyLoss() if multiclass else nn.BCEWithLogitsLoss()
    random = np.random.Generator(np.random.SFC64(0))
    for step, rows in enumerate([20, 5, 20, 5, 20, 5]):
        x = torch.rand(3, rows, INPUTS, generator=generator)
        y = torch.eye(CLASSES)[torch.randint(0, CLASSES, (3, rows), generator=generator)]
        if shared:
            x, y = x[:1].expand_as(x), y[:1].expand_as(y)
        masks = predictors.masks(rows, random)
        for model, optimizer, rows_of, wanted in zip(models, optimizers, x, y, strict=True):
            dropouts = [module for module in model if isinstance(module, GivenDropout)]
            for dropout, mask in zip(dropouts, masks, strict=True):
                dropout.mask = mask.T
            optimizer.zero_grad()
            plain_loss(model(rows_of), wanted.argmax(1) if multiclass else wanted).backward()
            optimizer.step()
        kept = [0, 2] if step > 2 else [0, 1, 2]
        if step == 3:
            predictors.keep(kept)
        targets = y[kept].argmax(2) if multiclass else y[kept]
        batch = (x[0], targets[0]) if shared else (x[kept], targets)
        predictors.train_step(*batch, masks, loss)
    assert len(predictors) == 2
    rows = torch.rand(9, INPUTS, generator=generator)
    found = predictors.predict(rows, [0, 1]).mT
    for each, number in zip(found, (0, 2), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(each, models[number].eval()(rows), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(predictors.predict(rows, [1])[0].T, found[1])


@pytest.mark.parametrize("multiclass", [True, False])
def test_the_loss_is_that_of_torch(multiclass):
    logits = torch.randn(3, 5, CLASSES)
    binary = torch.eye(CLASSES)[torch.tensor([0, 3, 1, 1, 2])]
    plain = nn.CrossEntropyLoss() if multiclass else nn.BCEWithLogitsLoss()
    wanted = torch.stack([plain(each, binary) for each in logits])
    loss = Loss(multiclass=multiclass)
    torch.testing.assert_close(loss(logits.mT, loss.targets(binary)), wanted)


@pytest.mark.parametrize("initialization", ["xavier_uniform_", "xavier_normal_"])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_weights_begin_as_those_of_heareval(initialization, layers):
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    conf = {key: values[0] for key, values in oracle.PARAM_GRID.items()}
    initialise = getattr(nn.init, initialization)
    conf |= {"hidden_layers": layers, "hidden_dim": 300, "initialization": initialise}
    torch.manual_seed(0)
    model = oracle.FullyConnectedPrediction(200, 100, "multiclass", conf)
    point = Hyperparameters(layers, 300, initialization=initialization)
    predictors = Predictors([point], 200, 100, [0], FLOAT32)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer, linear in zip(predictors._layers, linears, strict=True):
        bias = layer.bias if layer.bias.numel() else layer.shift
        for mine, theirs in ((layer.weight[0], linear.weight), (bias[0], linear.bias)):
            assert mine.shape == theirs.shape
            few = 0.03 if mine.dim() == 2 else 0.2
            assert mine.std().item() == pytest.approx(theirs.std().item(), rel=few)
            assert mine.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.2)


def test_dropout_leaves_out_as_many_as_it_should():
    predictors = Predictors([Hyperparameters(2, 500, 0.25)], INPUTS, CLASSES, [0], FLOAT32)
    masks = predictors.masks(400, np.random.Generator(np.random.SFC64(0)))
    assert [tuple(mask.shape) for mask in masks] == [(500, 400)] * 2
    assert not torch.equal(*masks)
    for mask in masks:
        assert mask.unique().tolist() == [0, 1]
        assert (mask == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)


def test_bfloat16_comes_close_to_float32():
    """The mean difference is a few thousandths of the spread of logits."""
    x, y = torch.randn(64, INPUTS), torch.randint(0, CLASSES, (64,))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        compute = DeviceAndDtype(torch.device("cpu"), dtype)
        predictors = Predictors([Hyperparameters(2, 64)], INPUTS, CLASSES, [1], compute)
        random = np.random.Generator(np.random.SFC64(0))
        for _ in range(10):
            masks = predictors.masks(64, random)
            predictors.train_step(x.to(dtype), y, masks, Loss(multiclass=True))
        found.append(predictors.predict(x.to(dtype), [0]))
    exact, rounded = found
    assert (exact - rounded).abs().mean() < 0.03 * exact.std()


def test_an_impossible_place_is_refused():
    with pytest.raises(ConfigError, match="'abacus'"):
        choose_device_and_dtype("abacus")
    with pytest.raises(ConfigError, match="precision 'int8'; known: auto"):
        choose_device_and_dtype("cpu", "int8")
    assert choose_device_and_dtype("cpu", "float32") == FLOAT32


@pytest.mark.parametrize(("milliseconds", "wanted"), [(0.5, "bfloat16"), (2.0, "float32")])
def test_the_automatic_precision_is_the_faster_one(monkeypatch, milliseconds, wanted):
    times = {torch.float32: 1.0, torch.bfloat16: milliseconds}
    monkeypatch.setattr(predictors_module, "_time_of_product", times.__getitem__)
    predictors_module._bfloat16_speed_up.cache_clear()
    assert choose_device_and_dtype("cpu").dtype == getattr(torch, wanted)
    predictors_module._bfloat16_speed_up.cache_clear()


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_of_weights_with_rows_that_are_not_aligned(shared):
    """They are those of a product that PyTorch differentiates, for several predictors."""
    weight = torch.randn(3, 5, 19, dtype=torch.float64, requires_grad=True)
    x = torch.randn(*(() if shared else (3,)), 19, 4, dtype=torch.float64, requires_grad=not shared)
    wanted = (weight @ x).square().sum()
    found = predictors_module._product(weight, x).square().sum()
    of = [weight] if shared else [weight, x]
    pairs = zip(torch.autograd.grad(found, of), torch.autograd.grad(wanted, of), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs)
