"""Gated recurrences over frames, forwards and backwards."""

from __future__ import annotations

from torch import Tensor, nn

from hear_sed.sequence.base import LAYERS, SequenceModel, check_dim


class _Gru(nn.Module):
    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_channels, dim, LAYERS, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class _Lstm(nn.Module):
    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(in_channels, dim, LAYERS, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class BidirectionalGru(SequenceModel):
    """Two layers of gated recurrent units (Cho et al., EMNLP 2014) in both directions.

    PretrainedSED calls it ``rnn``, and trains its teachers with a width of 2048.

    Args:
        in_channels: Number of channels of the input.
        dim: Hidden units of each direction; the output has twice as many channels.

    Raises:
        ConfigError: `dim` is not positive.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim)
        super().__init__(2 * dim, _Gru(in_channels, dim))


class BidirectionalLstm(SequenceModel):
    """Two layers of long short-term memory in both directions, and a linear layer.

    From Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation 1997), as in
    PretrainedSED.

    Args:
        in_channels: Number of channels of the input.
        dim: Hidden units of each direction; the output has twice as many channels.

    Raises:
        ConfigError: `dim` is not positive.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim)
        super().__init__(2 * dim, _Lstm(in_channels, dim), nn.Linear(2 * dim, 2 * dim))
