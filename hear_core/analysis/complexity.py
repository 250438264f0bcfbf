"""Complexity of networks: parameters, MACs, memory of activations, receptive field."""

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
    """Complexity of a network of a zoo, see the functions of this module.

    Attributes:
        seconds: Length of the clip in seconds.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames of the clip.
        parameters: Number of parameters.
        macs: Number of multiply-accumulates.
        peak_memory: Largest memory of activations in bytes.
        peak_memory_channelwise: The same if chains of layers are computed a few channels at a time.
        receptive_field: Receptive field in mel bands and frames; None if it is the whole clip.
        receptive_field_seconds: Length in seconds of the audio behind these frames; None if it is
            the whole clip.
    """

    seconds: float
    n_mels: int
    frames: int
    parameters: int
    macs: int
    peak_memory: int
    peak_memory_channelwise: int
    receptive_field: tuple[int, int] | None
    receptive_field_seconds: float | None


def complexity(record: NetworkRecord, seconds: float = 10.0) -> Complexity:
    """Return the complexity of a network for a clip, without loading its weights.

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
    field = _receptive_field(run)
    return Complexity(
        seconds,
        *shape,
        parameters(network),
        _macs(run),
        _peak_memory(run, channelwise=False),
        _peak_memory(run, channelwise=True),
        field,
        None
        if field is None
        else ((field[1] - 1) * frontend.hop + frontend.window) / frontend.sample_rate,
    )


def parameters(network: nn.Module) -> int:
    """Return the number of trained values of a network, without the statistics of batch norms."""
    return sum(p.numel() for p in network.parameters())


def macs(network: Backbone, n_mels: int, frames: int) -> int:
    """Return the multiply-accumulates from one log-mel to its logits.

    Convolutions and matrix products count, also if their weights are computed, and a bias counts
    one for each number that it is added to. Batch norms do not count, as they fold into
    convolutions, nor do activations, poolings and element-wise products.

    Args:
        network: Network, see `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames.
    """
    return _macs(record_operations(network, n_mels, frames))


def peak_memory(network: Backbone, n_mels: int, frames: int, *, channelwise: bool = False) -> int:
    """Return the largest number of bytes of 16-bit activations that one log-mel needs at once.

    While a layer runs, these are its inputs, its outputs, and what is kept for later, such as for a
    residual connection. Weights are not counted, nor are operations that can work in place.

    Args:
        network: Network, see `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames.
        channelwise: Compute the chains of `Backbone.channelwise_chains` in eight parts, each from
            the first to the last layer, so that only an eighth of what the layers of a chain pass
            to each other exists at once. Sandler et al., "MobileNetV2" (CVPR 2018), section 5.1,
            do so with inverted residuals, whose expanded channels take most of the memory. The
            squeeze-and-excitation of MobileNetV3 needs all channels, so that chains end there.
    """
    return _peak_memory(record_operations(network, n_mels, frames), channelwise=channelwise)


def receptive_field(network: Backbone, n_mels: int, frames: int) -> tuple[int, int] | None:
    """Return the receptive field of one point of the last map, in mel bands and frames.

    It follows from the kernels, strides and dilations of convolutions and poolings, and may exceed
    the log-mel. Averages over a whole axis are left out, those of squeeze-and-excitation and of
    heads. With attention or a recurrence there is no limit, and the result is None.

    Args:
        network: Network whose maps are (batch, channels, bands, frames), see
            `hear_core.analysis.op_recorder.record_operations`.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames.
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
    """Yield the ranges of operations that run as one: single ones, or whole chains."""
    start = 0
    while start < len(operations):
        stop, chain = start + 1, operations[start].chain
        if channelwise and chain is not None:
            while stop < len(operations) and operations[stop].chain == chain:
                stop += 1
        yield range(start, stop)
        start = stop


def _receptive_field(run: RecordedRun) -> tuple[int, int] | None:
    one = _Field(1, 1)
    fields = {run.log_mel: (one, one)}
    for operation in run.operations:
        found = [fields[value] for value in operation.reads if value in fields]
        if operation.mixes and found:
            return None
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
    """Receptive field of a point of a map along an axis, and distance of its neighbour."""

    size: int
    step: int

    def through(self, reach: int, stride: int) -> _Field:
        return _Field(self.size + reach * self.step, self.step * stride)


def _widest(fields: Iterable[_Field]) -> _Field:
    sizes, steps = zip(*fields, strict=True)
    return _Field(max(sizes), max(steps))
