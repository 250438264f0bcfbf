"""The extractor: waveform in, embedding out. What is run, measured and exported."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.networks.channel_padding import pad_channels
from hear_core.networks.taps import (
    MEL_AVERAGES,
    TapShape,
    concatenate,
    concatenate_frames,
    layout,
    resolve,
)


class Extractor(nn.Module):
    """Front-end, backbone and taps as one frozen function.

    Args:
        frontend: Makes log-mels.
        backbone: Makes taps.
        taps: Tap names or aliases, in the order in which they are concatenated.
        pooling: How map taps become vectors, a key of `hear_core.networks.taps.POOLINGS`.
        autocast: Run the backbone in float16 where it is on a CUDA device. The front-end stays in
            float32: the logarithm of small powers needs its range.

    Attributes:
        taps: Names of the taps, aliases spelt out.
        slices: The columns of the embedding that each tap fills.
        size: Length of the embedding.
        min_samples: Shortest waveform that both front-end and backbone can take.
        samples_per_frame: From one frame of a frame-wise backbone to the next; else 0.

    Shape:
        (batch, samples), at least `min_samples` long, to (batch, size), float32. If the backbone
        hears frame by frame, samples must be a multiple of `samples_per_frame`, and the result is
        (batch, frames, size).

    Raises:
        ConfigError: A tap or the pooling is unknown.
    """

    def __init__(
        self,
        frontend: Frontend,
        backbone: Backbone,
        taps: Sequence[str],
        pooling: str = "avg",
        *,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        shapes = {MEL_AVERAGES: TapShape(frontend.n_mels), **backbone.tap_shapes}
        self.frontend, self.backbone = frontend, backbone
        self.pooling, self.autocast = pooling, autocast
        self.taps = resolve(taps, shapes)
        self.slices = layout(self.taps, shapes, pooling)
        self.size = self.slices[self.taps[-1]].stop
        self.samples_per_frame = (backbone.frame_stride or 0) * frontend.hop
        self.min_samples = frontend.samples_for(backbone.min_frames)
        if self.samples_per_frame:
            self.min_samples += -self.min_samples % self.samples_per_frame
        self.train(False)

    def train(self, mode: bool = True) -> Extractor:
        """Stay in evaluation mode: an extractor is frozen, whatever is asked."""
        return super().train(False)

    def forward(self, waveform: Tensor) -> Tensor:
        log_mel = self.frontend(waveform)
        stride = self.backbone.frame_stride
        if stride:
            # Some front-ends give a frame more, which is centred on the end.
            frames = log_mel.shape[2] // stride
            log_mel = log_mel[:, :, : frames * stride]
        values = {}
        if MEL_AVERAGES in self.taps:
            by_frame = log_mel.unflatten(2, (-1, stride)) if stride else log_mel
            values[MEL_AVERAGES] = by_frame.mean(-1)
        if deeper := [tap for tap in self.taps if tap != MEL_AVERAGES]:
            with torch.autocast("cuda", torch.float16, enabled=self.autocast and waveform.is_cuda):
                values |= self.backbone(log_mel.to(self._dtype), deeper)
        if stride:
            return concatenate_frames(values, self.taps, frames, self.pooling)
        return concatenate(values, self.taps, self.pooling)

    def exportable(self, *, half: bool = False, narrowest: int = 1) -> Extractor:
        """Return the same extractor, of operations that every runtime has.

        Args:
            half: Have the backbone in float16.
            narrowest: Channels that its maps shall have at least.
        """
        backbone = pad_channels(self.backbone, narrowest)
        if half:
            backbone = copy.deepcopy(backbone).half()
        frontend = self.frontend.exportable()
        return Extractor(frontend, backbone, self.taps, self.pooling, autocast=False)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.backbone.parameters()).dtype
