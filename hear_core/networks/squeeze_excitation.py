"""Squeeze-and-excitation over channels, frequency and time (Hu et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError, unknown

_AXES = {"c": 1, "f": 2, "t": 3}
AGGREGATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max": lambda scaled: scaled.amax(0),
    "avg": lambda scaled: scaled.mean(0),
    "add": lambda scaled: scaled.sum(0),
    "min": lambda scaled: scaled.amin(0),
}


class _Branch(nn.Module):
    """Scale a map along one axis, depending on its averages along that axis."""

    def __init__(self, axis: int, size: int, bottleneck: int) -> None:
        super().__init__()
        self.other_axes = [other for other in _AXES.values() if other != axis]
        self.shape = [-1, *(size if other == axis else 1 for other in _AXES.values())]
        self.fc1 = nn.Linear(size, bottleneck)
        self.fc2 = nn.Linear(bottleneck, size)

    def squeeze(self, x: Tensor) -> Tensor:
        return self.fc1(x.mean(self.other_axes))

    def excite(self, x: Tensor, bottleneck: Tensor) -> Tensor:
        return x * self.fc2(bottleneck.relu()).sigmoid().view(self.shape)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation with one branch per axis, whose results are aggregated.

    Args:
        sizes: Size of the map along ``c``, ``f`` and ``t``.
        bottlenecks: Size of the bottleneck of each axis.
        dims: Axes to use, as a string of these letters.
        agg: Key of `AGGREGATIONS`.

    Attributes:
        bottleneck: Total size of the bottlenecks in use.

    Raises:
        ConfigError: `dims` or `agg` is unknown.
    """

    def __init__(
        self, sizes: Mapping[str, int], bottlenecks: Mapping[str, int], dims: str, agg: str
    ) -> None:
        super().__init__()
        if not dims or not set(dims) <= set(_AXES):
            msg = f"se_dims must be 'none' or letters of 'c', 'f' and 't', not {dims!r}"
            raise ConfigError(msg)
        if agg not in AGGREGATIONS:
            raise ConfigError(unknown("se_agg", agg, AGGREGATIONS))
        self.dims, self.agg = dims, agg
        used = [d for d in _AXES if d in dims]
        self.bottleneck = sum(bottlenecks[d] for d in used)
        branches = [_Branch(_AXES[d], sizes[d], bottlenecks[d]) for d in used]
        self.conc_se_layers: Iterable[_Branch] = nn.ModuleList(branches)  # type: ignore[assignment]

    def squeeze(self, x: Tensor) -> list[Tensor]:
        """Return the bottleneck of every branch before its ReLU, (batch, size)."""
        return [branch.squeeze(x) for branch in self.conc_se_layers]

    def excite(self, x: Tensor, bottlenecks: Sequence[Tensor]) -> Tensor:
        """Return the map (batch, channels, bands, frames), scaled."""
        scaled = [b.excite(x, z) for b, z in zip(self.conc_se_layers, bottlenecks, strict=True)]
        return scaled[0] if len(scaled) == 1 else AGGREGATIONS[self.agg](torch.stack(scaled))
