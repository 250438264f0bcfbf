"""Predictors of one shape, computed together: perceptrons, each trained by its own Adam.

They are those of heareval: layers of linear, batch norm, dropout and ReLU, then a projection. What
heareval computes one after the other is one matrix product here. Dropout has the same mask for all
of them, which makes no difference to each by itself. The bias of a hidden layer is not trained,
since batch norm removes it; it only shifts the running mean, until that has forgotten its first
value.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adam import adam

from hear_core.errors import ConfigError
from hear_core.io.threads import torch_threads
from hear_eval.downstream.grid import Hyperparameters

_ONE = np.uint16(0x3F80)  # the bits of 1 in bfloat16
_MOMENTUM = 0.1  # of the running statistics of batch norm
_MIN_SPEED_UP = 1.3  # of bfloat16, for which ``auto`` uses it
_ALIGNED = 16  # numbers in a vector of the widest processors
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class DeviceAndDtype(NamedTuple):
    """The device of predictors, and the type of their matrix products.

    Weights, the state of Adam and the statistics of batch norm are float32 in any case.
    """

    device: torch.device
    dtype: torch.dtype


def choose_device_and_dtype(device: str = "auto", precision: str = "auto") -> DeviceAndDtype:
    """Return the device and type to compute with.

    Args:
        device: Device such as ``cpu``; ``auto`` is a GPU if there is one.
        precision: ``float32``, ``bfloat16``, or ``auto`` for bfloat16 if it is fast on the device:
            a measurement of a few milliseconds decides on a CPU.

    Raises:
        ConfigError: The device or the precision is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        msg = f"predictors cannot be computed on {device!r}: {str(error).splitlines()[0]}"
        raise ConfigError(msg) from error
    if precision == "auto":
        return DeviceAndDtype(place, torch.bfloat16 if _has_bfloat16(place) else torch.float32)
    if precision not in _PRECISIONS:
        msg = f"unknown precision {precision!r}; known: auto, {', '.join(_PRECISIONS)}"
        raise ConfigError(msg)
    return DeviceAndDtype(place, _PRECISIONS[precision])


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _bfloat16_speed_up() > _MIN_SPEED_UP


@cache
def _bfloat16_speed_up() -> float:
    """Return how many times as fast as float32 a matrix product in bfloat16 is on this CPU.

    It is about 2 with instructions for it, 8 with matrix units, and 0.1 where it is emulated.
    """
    with torch_threads(1):
        times = [_time_of_product(dtype) for dtype in (torch.float32, torch.bfloat16)]
    return times[0] / times[1]


def _time_of_product(dtype: torch.dtype) -> float:
    matrix = torch.ones(256, 256, dtype=dtype)
    times = []
    for _ in range(4):  # the first includes the choice of a kernel
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times)


class _Layer(NamedTuple):
    """The parameters of a layer of all predictors, and the running statistics of batch norm.

    Args:
        weight: Weights, (predictors, outputs, inputs).
        shift: Shift of batch norm, (predictors, outputs); for the projection, its bias.
        scale: Scale of batch norm; empty for the projection, as all that follow.
        bias: Bias, which is not trained.
        mean: Running mean.
        variance: Running variance.
    """

    weight: Tensor
    shift: Tensor
    scale: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def of(self, index: Sequence[int]) -> _Layer:
        return _Layer(*(part[index] for part in self))


class _Adam(NamedTuple):
    """The state of Adam: its learning rate, the moments of gradients, and the number of steps.

    It replaces `torch.optim.Adam`, whose import takes a second.
    """

    lr: float
    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]

    @classmethod
    def new(cls, lr: float, parameters: Sequence[Tensor]) -> _Adam:
        first, second = ([torch.zeros_like(part) for part in parameters] for _ in range(2))
        return cls(lr, first, second, [torch.zeros((), device=p.device) for p in parameters])


class Predictors:
    """Perceptrons that differ in their learning rates, weights and training data.

    Args:
        points: Hyperparameters of each; layers, units, dropout and batch size are the same for all.
        inputs: Number of dimensions of an embedding.
        classes: Number of classes.
        seeds: Seed of the weights of each.
        compute: Device and type to compute with.
    """

    def __init__(
        self,
        points: Sequence[Hyperparameters],
        inputs: int,
        classes: int,
        seeds: Sequence[int],
        compute: DeviceAndDtype,
    ) -> None:
        sizes = [inputs, *[points[0].hidden_dim] * points[0].hidden_layers, classes]
        made = [
            _layers(point, sizes, torch.Generator().manual_seed(seed))
            for point, seed in zip(points, seeds, strict=True)
        ]
        self._layers = [
            _Layer(*(torch.stack(parts).to(compute.device) for parts in zip(*each, strict=True)))
            for each in zip(*made, strict=True)
        ]
        self._dtype, self._dropout = compute.dtype, points[0].dropout
        self._steps = 0
        self._adams = [
            _Adam.new(point.lr, [part[0] for part in self._trained()]) for point in points
        ]
        self._fused = compute.device.type in ("cpu", "cuda")
        # Gradients of one predictor in float32, used by all in turn, where they are computed in
        # another type.
        self._gradients = [
            None if dtype == part.dtype else torch.empty_like(part[0])
            for part, dtype in zip(self._trained(), self._dtypes(), strict=True)
        ]
        self._leaves = self._new_leaves()

    def __len__(self) -> int:
        return len(self._adams)

    def _trained(self) -> list[Tensor]:
        """Return the trained parameters, stacked over predictors."""
        return [part for layer in self._layers for part in layer[:3] if part.numel()]

    def _dtypes(self) -> list[torch.dtype]:
        """Return the types to compute with: matrices in the reduced one."""
        return [self._dtype if part.dim() == 3 else part.dtype for part in self._trained()]

    def _new_leaves(self) -> list[Tensor]:
        """Return the trained parameters to compute with; those in their own type share memory."""
        return [
            part.detach().to(dtype).requires_grad_()
            for part, dtype in zip(self._trained(), self._dtypes(), strict=True)
        ]

    def keep(self, index: Sequence[int]) -> None:
        """Keep some predictors only."""
        self._layers = [layer.of(index) for layer in self._layers]
        self._adams = [self._adams[i] for i in index]
        self._leaves = self._new_leaves()

    def masks(self, rows: int, random: np.random.Generator) -> list[Tensor]:
        """Draw dropout masks (units, rows) of the hidden layers: 0 for dropped units, else 1."""
        units = [layer.weight.shape[1] for layer in self._layers[:-1]]
        limit = round(self._dropout * 2**16)
        drawn = (_sixteen_bits(n * rows, random).reshape(n, rows) >= limit for n in units)
        device = self._layers[0].weight.device
        return [_zeros_and_ones(mask, self._dtype).to(device) for mask in drawn]

    def train_step(
        self, rows: Tensor, targets: Tensor, masks: Sequence[Tensor], loss: Loss
    ) -> None:
        """Train all predictors on a batch.

        Args:
            rows: Embeddings (rows, inputs), or those of each predictor (predictors, rows, inputs).
            targets: Targets of each row, or of each predictor and row; see `Loss.targets`.
            masks: Dropout masks; see `masks`.
            loss: Loss to minimise.
        """
        leaves = iter(self._leaves)
        x, factor = rows.mT, 1 / (1 - self._dropout)
        for layer, mask in zip(self._layers[:-1], masks, strict=True):
            weight, shift, scale = (next(leaves) for _ in range(3))
            y = F.batch_norm(
                _product(weight, x).flatten(0, 1)[None],
                layer.mean.flatten(),
                layer.variance.flatten(),
                scale.flatten() * factor,
                shift.flatten() * factor,
                training=True,
                momentum=_MOMENTUM,
            )[0].unflatten(0, (len(self), -1))
            # A dropped unit is 0 after the ReLU, and so has no gradient anyway.
            y.detach().mul_(mask)
            x = y.relu_()
        weight, shift = leaves
        loss(_product(weight, x).float() + shift[..., None], targets).sum().backward()
        self._steps += 1
        self._descend()

    @torch.no_grad()
    def _descend(self) -> None:
        """Take a step of every Adam; only one at a time has its gradients converted to float32."""
        for number, state in enumerate(self._adams):
            computed = [leaf.grad[number] for leaf in self._leaves]  # type: ignore[index]  # set now
            adam(
                [part[number] for part in self._trained()],
                [
                    found if buffer is None else buffer.copy_(found)
                    for found, buffer in zip(computed, self._gradients, strict=True)
                ],
                state.first,
                state.second,
                [],
                state.steps,
                fused=self._fused,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=state.lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
        for leaf, part in zip(self._leaves, self._trained(), strict=True):
            if leaf.dtype != part.dtype:
                leaf.copy_(part)
            leaf.grad = None

    @torch.no_grad()
    def predict(self, rows: Tensor, index: Sequence[int]) -> Tensor:
        """Return the logits of some predictors (predictors, classes, rows).

        The projection is computed in float32: bfloat16 has too few different numbers to rank clips.

        Args:
            rows: Embeddings (rows, inputs).
            index: Indices of the predictors.
        """
        x, number = rows.T, len(index)
        for layer, leaf in zip(self._layers[:-1], self._leaves[::3], strict=False):
            shift, scale, bias, mean, variance = (part[index] for part in layer[1:])
            weight = leaf.detach()[index] if number < len(self) else leaf.detach()
            mean -= bias * (1 - _MOMENTUM) ** self._steps
            statistics = (mean.flatten(), variance.flatten(), scale.flatten(), shift.flatten())
            y = F.batch_norm(_multiply(weight, x).flatten(0, 1)[None], *statistics)
            x = y[0].unflatten(0, (number, -1)).relu_()
        last = self._layers[-1].of(index)
        return _multiply(last.weight, x.float()) + last.shift[..., None]


class Loss:
    """The loss of predictors.

    Args:
        multiclass: Whether it is the cross entropy of one class; else it is the mean over classes
            of the binary cross entropy.
    """

    def __init__(self, *, multiclass: bool) -> None:
        self._multiclass = multiclass

    def targets(self, binary: Tensor) -> Tensor:
        """Return targets (rows, classes), 0 or 1, in the form that the loss takes."""
        return binary.argmax(1) if self._multiclass else binary

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over rows for each predictor.

        Args:
            logits: Logits (predictors, classes, rows).
            targets: Targets of each row, or of each predictor and row; see `targets`.
        """
        if self._multiclass:
            targets = targets.expand(len(logits), -1)
            return F.cross_entropy(logits, targets, reduction="none").mean(1)
        targets = targets.mT.expand_as(logits)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.mean((1, 2))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities for logits (..., rows, classes)."""
        return logits.softmax(-1) if self._multiclass else logits.sigmoid()


def _multiply(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply the weights of each predictor by shared inputs or by its own.

    Rows come last, so that neither the product nor its gradient copies a matrix.

    Args:
        weight: Weights (predictors, outputs, inputs).
        x: Inputs (inputs, rows) or (predictors, inputs, rows).

    Returns:
        (predictors, outputs, rows).
    """
    if x.dim() == 2:
        return (weight.flatten(0, 1) @ x).unflatten(0, (len(weight), -1))
    return torch.bmm(weight, x)


class _Product(torch.autograd.Function):
    """The product of `_multiply`, with a faster gradient of weights whose rows are not aligned.

    A matrix product takes 1.4 times as long if the rows of its result, such as the 911 inputs of a
    unit, begin at addresses that are not multiples of a vector.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        return _multiply(weight, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        weight, x = ctx.saved_tensors
        predictors, outputs, inputs = weight.shape
        aligned = -(-inputs // _ALIGNED) * _ALIGNED
        found = gradient.new_empty(predictors, outputs, aligned)[..., :inputs]
        if x.dim() == 2:
            torch.mm(gradient.flatten(0, 1), x.mT, out=found.flatten(0, 1))
        else:
            torch.bmm(gradient, x.mT, out=found)
        of_x = torch.bmm(weight.mT, gradient) if ctx.needs_input_grad[1] else None
        return found, of_x


def _product(weight: Tensor, x: Tensor) -> Tensor:
    product: Tensor = _Product.apply(weight, x)
    return product


def _sixteen_bits(number: int, random: np.random.Generator) -> np.ndarray:
    """Draw numbers from 0 to 65535, four at a time: three times as fast as `random.integers`."""
    raw = np.asarray(random.bit_generator.random_raw(-(-number // 4)), np.uint64)
    return raw.view(np.uint16)[:number]


def _zeros_and_ones(kept: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Convert a mask to numbers; bfloat16, which numpy does not have, is made from its bits."""
    if dtype == torch.bfloat16:
        return torch.from_numpy(kept * _ONE).view(torch.bfloat16)
    return torch.from_numpy(kept).to(dtype)


def _layers(
    point: Hyperparameters, sizes: Sequence[int], generator: torch.Generator
) -> list[_Layer]:
    """Return the layers of one predictor, initialised as by heareval and PyTorch."""
    initialise = getattr(nn.init, point.initialization)
    empty = torch.empty(0)
    made = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weight = torch.empty(outputs, inputs)
        initialise(weight, nn.init.calculate_gain("relu" if number else "linear"), generator)
        bias = torch.empty(outputs).uniform_(-1, 1, generator=generator) / inputs**0.5
        if number < len(sizes) - 2:
            zeros, ones = torch.zeros(outputs), torch.ones(outputs)
            layer = _Layer(weight, zeros, ones, bias, zeros.clone(), ones.clone())
        else:
            layer = _Layer(weight, bias, empty, empty, empty, empty)
        made.append(layer)
    return made
