"""How large a network is, how much it computes, how much memory that takes, how far it sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import nn

from hear_core.analysis.op_recorder import Operation, RecordedRun, record_operations
from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_core.zoo.registry import NetworkRecord

_BYTES = 2
_PARTS = 8


class Complexity(NamedTuple):
    """What a network of a zoo costs, see the functions of this module.

    Attributes:
        seconds: Length of the clip that the following are for.
        n_mels: Bands of its log-mel.
        frames: Frames of its log-mel.
        parameters: Number of trained values of the network.
        macs: Multiply-accumulates.
        peak_memory: Bytes of activations at once.
        peak_memory_channelwise: The same, chains of layers being computed in parts.
        receptive_field: Mel bands and frames.
        receptive_field_seconds: Length of the audio behind these frames.
    """

    seconds: float
    n_mels: int
    frames: int
    parameters: int
    macs: int
    peak_memory: int
    peak_memory_channelwise: int
    receptive_field: tuple[int, int]
    receptive_field_seconds: float


def complexity(record: NetworkRecord, seconds: float = 10.0) -> Complexity:
    """Return what a network costs with its front-end's log-mel of a clip, without its weights.

    Raises:
        ConfigError: The clip is too short.
    """
    frontend, network = record.frontend(), record.skeleton()
    samples = round(seconds * frontend.sample_rate)
    least = frontend.samples_for(network.min_frames)
    if samples < least:
        shortest = least / frontend.sample_rate
        msg = f"a clip of {seconds:g} s is too short; it takes {shortest:g} s"
        raise ConfigError(msg)
    shape = frontend.n_mels, frontend.frames(samples)
    run = record_operations(network, *shape)
    bands, frames = _receptive_field(run)
    return Complexity(
        seconds,
        *shape,
        parameters(network),
        _macs(run),
        _peak_memory(run, channelwise=False),
        _peak_memory(run, channelwise=True),
        (bands, frames),
        ((frames - 1) * frontend.hop + frontend.window) / frontend.sample_rate,
    )


def parameters(network: nn.Module) -> int:
    """Return the number of trained values of a network, without the statistics of batch norms."""
    return sum(p.numel() for p in network.parameters())


def macs(network: Backbone, n_mels: int, frames: int) -> int:
    """Return the multiply-accumulates from one log-mel to its logits.

    Convolutions and matrix products count, whatever their weights come from, and a bias counts one
    for each number that it is added to. Batch norms count nothing, as they fold into convolutions,
    nor do activations, poolings and element-wise products.

    Args:
        network: Put into evaluation mode; see `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Bands of the log-mel.
        frames: Its frames.
    """
    return _macs(record_operations(network, n_mels, frames))


def peak_memory(network: Backbone, n_mels: int, frames: int, *, channelwise: bool = False) -> int:
    """Return the most bytes of activations, of 16 bits, that are needed at once for one log-mel.

    While a layer runs, that is what goes into it, what comes out of it, and what is kept for later,
    such as for a residual connection. Weights are not counted, nor what can be done in place.

    Args:
        network: Put into evaluation mode; see `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Bands of the log-mel.
        frames: Its frames.
        channelwise: Compute the chains of `Backbone.channelwise_chains` in eight parts, each from
            the first to the last layer, so that only an eighth of what the layers of a chain pass
            to each other exists at once. Sandler et al., "MobileNetV2" (CVPR 2018), section 5.1,
            do so with inverted residuals, whose expanded channels take most of the memory. The
            squeeze-and-excitation of MobileNetV3 needs all channels, so that chains end there.
    """
    return _peak_memory(record_operations(network, n_mels, frames), channelwise=channelwise)


def receptive_field(network: Backbone, n_mels: int, frames: int) -> tuple[int, int]:
    """Return how many mel bands and how many frames one point of the last map sees.

    This is the way through convolutions and poolings, from their kernels, strides and dilations,
    and may exceed the log-mel. What sees all of an axis is left out: averages over it, in
    squeeze-and-excitation and in heads, attention and recurrence.

    Args:
        network: Whose maps are (batch, channels, bands, frames); put into evaluation mode; see
            `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Bands of the log-mel.
        frames: Its frames.
    """
    return _receptive_field(record_operations(network, n_mels, frames))


def _macs(run: RecordedRun) -> int:
    return sum(operation.macs for operation in run.operations)


def _peak_memory(run: RecordedRun, *, channelwise: bool) -> int:
    operations = run.operations
    made, used = {run.log_mel: -1}, dict.fromkeys(range(len(run.sizes)), -1)
    for index, operation in enumerate(operations):
        for value in operation.makes:
            made.setdefault(value, index)
        for value in operation.reads:
            used[value] = index
    used |= dict.fromkeys(operations[-1].makes, len(operations))

    def size(values: Iterable[int]) -> int:
        return sum(run.sizes[value] for value in values)

    peak, there = 0, {run.log_mel}
    for span in _spans(operations, channelwise):
        new = {v for index in span for v in operations[index].makes if made[v] in span}
        coming = {v for v in new if used[v] >= span.stop}
        if layers := [operations[index] for index in span if operations[index].layer]:
            handed_on = {v for layer in layers for v in layer.reads} - there - coming
            peak = max(peak, size(there) + size(coming) + -(-size(handed_on) // _PARTS))
        there = {v for v in there if used[v] >= span.stop} | coming
    return _BYTES * peak


def _spans(operations: Sequence[Operation], channelwise: bool) -> Iterator[range]:
    """Yield the operations that run as one: every one alone, or a whole chain."""
    start = 0
    while start < len(operations):
        stop, chain = start + 1, operations[start].chain
        if channelwise and chain is not None:
            while stop < len(operations) and operations[stop].chain == chain:
                stop += 1
        yield range(start, stop)
        start = stop


def _receptive_field(run: RecordedRun) -> tuple[int, int]:
    one = _Field(1, 1)
    fields = {run.log_mel: (one, one)}
    for operation in run.operations:
        found = [fields[value] for value in operation.reads if value in fields]
        if operation.windows and operation.reads[0] in fields:
            frequency, time = fields[operation.reads[0]]
            reach_in_frequency, reach_in_time = operation.windows
            seen = frequency.through(*reach_in_frequency), time.through(*reach_in_time)
        elif found:
            seen = _widest(f for f, _ in found), _widest(t for _, t in found)
        else:
            continue
        fields |= dict.fromkeys(operation.makes, seen)
    frequency, time = fields[run.operations[-1].makes[0]]
    return frequency.size, time.size


class _Field(NamedTuple):
    """What one point of a map sees along an axis, and how far its neighbour is, at the input."""

    size: int
    step: int

    def through(self, reach: int, stride: int) -> _Field:
        return _Field(self.size + reach * self.step, self.step * stride)


def _widest(fields: Iterable[_Field]) -> _Field:
    sizes, steps = zip(*fields, strict=True)
    return _Field(max(sizes), max(steps))
