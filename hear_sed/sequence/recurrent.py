"""A gated recurrence over frames, forwards and backwards."""

from __future__ import annotations

from torch import Tensor, nn

from hear_sed.sequence.base import LAYERS, SequenceModel, check_dim


class _Gru(nn.Module):
    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_channels, dim, LAYERS, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class BidirectionalGru(SequenceModel):
    """Two layers of gated recurrent units (Cho et al., EMNLP 2014) in both directions.

    Args:
        in_channels: Number of channels of the input.
        dim: Hidden units of each direction; the output has twice as many channels.

    Raises:
        ConfigError: `dim` is not positive.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim)
        super().__init__(2 * dim, _Gru(in_channels, dim))
