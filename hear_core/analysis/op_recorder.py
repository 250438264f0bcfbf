"""A recorder of the operations of a network.

It records operators and not layers, so that a convolution counts the same whether its weights
belong to a layer or were computed from the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from hear_core.networks.backbone import Backbone

_ATEN = torch.ops.aten
_BIAS = {_ATEN.convolution.default: 2, _ATEN.addmm.default: 0}
_ADD = {_ATEN.add.Tensor, _ATEN.add_.Tensor}
_POOL = {_ATEN.avg_pool2d.default, _ATEN.max_pool2d_with_indices.default}
_ATTENTION = _ATEN._scaled_dot_product_flash_attention_for_cpu.default  # torch forgot its formula
_MIX = {
    _ATTENTION,
    _ATEN._scaled_dot_product_flash_attention.default,
    _ATEN._scaled_dot_product_efficient_attention.default,
    _ATEN._scaled_dot_product_fused_attention_overrideable.default,
    _ATEN._safe_softmax.default,  # a part of attention that is not fused, and of nothing else
    _ATEN.cumsum.default,
}
"""Operations whose outputs depend on a whole axis, other than averages."""
_REDUCE = {_ATEN.mean.dim, _ATEN.amax.default, _ATEN._adaptive_avg_pool2d.default}


class Operation(NamedTuple):
    """One recorded operation. Values have integer ids; weights have none.

    Attributes:
        reads: Ids of the inputs, in the order of the arguments.
        makes: Ids of the outputs; one that is also an input is changed in place.
        macs: Number of multiply-accumulates.
        windows: Pairs (reach, stride) along frequency and time of a convolution or a pooling: the
            distance of the outermost input points of one output, and that of two outputs.
        mixes: Whether an output depends on a whole axis, as in attention and recurrences.
        layer: Whether it is a product, a pooling or a reduction, whose inputs and outputs must
            exist together. Other operations can work in place.
        chain: Index of its chain in `Backbone.channelwise_chains`, if it is in one.
    """

    reads: tuple[int, ...]
    makes: tuple[int, ...]
    macs: int
    windows: tuple[tuple[int, int], tuple[int, int]] | None
    mixes: bool
    layer: bool
    chain: int | None


class RecordedRun(NamedTuple):
    """The operations of one run, the number of elements of every value, and the log-mel's id."""

    operations: list[Operation]
    sizes: list[int]
    log_mel: int


def record_operations(network: Backbone, n_mels: int, frames: int) -> RecordedRun:
    """Record the operations of a network from one log-mel to its logits.

    Args:
        network: Network, which is put into evaluation mode. A skeleton
            (`NetworkRecord.skeleton`) is enough, and takes no time whatever its size.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames.
    """
    network.eval()
    recorder = _Recorder(network)
    weight = next(network.parameters())
    log_mel = torch.zeros(1, n_mels, frames, dtype=weight.dtype, device=weight.device)
    start = recorder.number(log_mel)
    hooks = []
    # Step by step, a recurrence would be thousands of identical operations.
    recurrences = [module for module in network.modules() if isinstance(module, nn.GRU)]
    for module in recurrences:
        module.forward = recorder.one_operation(module)  # type: ignore[assignment, method-assign]
    for number, chain in enumerate(network.channelwise_chains()):
        for layer in chain:
            hooks.append(layer.register_forward_pre_hook(recorder.enters(number)))
            hooks.append(layer.register_forward_hook(recorder.enters(None)))
    try:
        with torch.no_grad(), recorder:
            network(log_mel)
    finally:
        for hook in hooks:
            hook.remove()
        for module in recurrences:
            del module.forward
    return RecordedRun(recorder.operations, recorder.sizes, start)


class _Recorder(TorchDispatchMode):
    """Records operations. A value is a storage: all views of it are the same value."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.sizes: list[int] = []
        self._chain: int | None = None
        self._weights = {_storage(t) for t in [*network.parameters(), *network.buffers()]}
        self._numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no storage gets the address of another

    def number(self, tensor: Tensor) -> int:
        address = _storage(tensor)
        if address not in self._numbers:
            self._numbers[address] = len(self.sizes)
            self.sizes.append(tensor.untyped_storage().nbytes() // tensor.element_size())
            self._kept.append(tensor)
        return self._numbers[address]

    def enters(self, chain: int | None) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._chain = chain

        return hook

    def one_operation(self, gru: nn.GRU) -> Callable[..., tuple[Tensor, None]]:
        """Return a forward function that records a recurrence as one operation."""

        def forward(x: Tensor) -> tuple[Tensor, None]:
            directions = 1 + gru.bidirectional
            out = x.new_empty(*x.shape[:-1], directions * gru.hidden_size)
            weights = sum(weight.numel() for weight in gru.parameters())
            macs = x[..., 0].numel() * weights
            reads, makes = (self.number(x),), (self.number(out),)
            self.operations.append(Operation(reads, makes, macs, None, True, True, self._chain))
            return out, None

        return forward

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        products = 0
        if formula := flop_registry.get(func.overloadpacket):
            products = formula(*args, **(kwargs or {}), out_val=result) // 2
        elif func is _ATTENTION:
            products = sdpa_flop_count(*(tensor.shape for tensor in args[:3])) // 2
        windows = _windows(func, args)
        reads = tuple(self._values(args, kwargs))
        self.operations.append(
            Operation(
                reads,
                tuple(self._values(result)),
                products + self._biases(func, args, result),
                windows,
                func in _MIX,
                bool(products) or windows is not None or func in _REDUCE,
                self._chain,
            )
        )
        return result

    def _values(self, *tree: Any) -> Iterator[int]:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor) and _storage(leaf) not in self._weights:
                yield self.number(leaf)

    def _biases(self, func: Any, args: Sequence[Any], result: Any) -> int:
        """Count the biases; a linear layer may be a product and an addition."""
        if func in _BIAS:
            return 0 if args[_BIAS[func]] is None else result.numel()
        if func in _ADD and any(
            isinstance(a, Tensor) and _storage(a) in self._weights for a in args
        ):
            return result.numel()
        return 0


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _windows(func: Any, args: Sequence[Any]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if func is _ATEN.convolution.default:
        kernel, stride, dilation = args[1].shape[2:], args[3], args[5]
    elif func in _POOL:
        kernel, dilation = args[1], [1, 1]
        stride = args[2] if len(args) > 2 and args[2] else kernel
    else:
        return None
    windows = [(d * (k - 1), s) for k, s, d in zip(kernel, stride, dilation, strict=True)]
    frequency, time = [(0, 1), *windows][-2:]  # a convolution over time alone has one axis
    return frequency, time
