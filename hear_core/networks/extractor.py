"""The extractor: the unit from waveform to embedding that is run, measured and exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hear_core.frontends.log_frequency import LogFrequency, log_frequency_centres
from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.networks.taps import (
    FRONTEND_ALIASES,
    LOG_FREQUENCY,
    LOG_MEL_TAPS,
    TapShape,
    concatenate,
    concatenate_frames,
    layout,
    resolve,
)


def offered_taps(frontend: Frontend, backbone: Backbone) -> Mapping[str, TapShape]:
    """Return the shapes of all taps that an extractor can have, by name."""
    return {
        **dict.fromkeys(LOG_MEL_TAPS, TapShape(frontend.n_mels)),
        LOG_FREQUENCY: TapShape(len(log_frequency_centres(frontend.sample_rate))),
        **backbone.tap_shapes,
    }


class Extractor(nn.Module):
    """Front-end, backbone and taps as one function from waveforms to embeddings.

    It starts in evaluation mode.

    Args:
        frontend: Front-end that computes log-mels.
        backbone: Network that computes the taps.
        taps: Tap names or aliases, in the order in which they are concatenated.
        pooling: Pooling of map taps to vectors, a key of `hear_core.networks.taps.POOLINGS`.
        autocast: Run the backbone in float16 on CUDA devices. The front-end stays in float32: the
            logarithm of small powers needs its range.

    Attributes:
        taps: Names of the taps, without aliases.
        tap_aliases: Names of taps by alias, those of the front-end included.
        slices: Columns of the embedding by tap.
        size: Length of the embedding.
        min_samples: Length in samples of the shortest waveform that the extractor accepts.
        framewise: Whether there is an embedding for every frame instead of one per clip.
        samples_per_frame: Number of samples from one output frame to the next; None unless
            `framewise`.

    Shape:
        (batch, samples) to (batch, size), float32, or to (batch, frames, size) if `framewise`.
        There must be at least `min_samples` samples, and a multiple of `samples_per_frame`.

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
        shapes = offered_taps(frontend, backbone)
        self.frontend, self.backbone = frontend, backbone
        self.pooling, self.autocast = pooling, autocast
        self.tap_aliases = {**FRONTEND_ALIASES, **backbone.tap_aliases}
        self.taps = resolve(taps, shapes, self.tap_aliases)
        self.slices = layout(self.taps, shapes, pooling)
        self.size = self.slices[self.taps[-1]].stop
        self.framewise = backbone.framewise
        stride = backbone.frame_stride
        self.samples_per_frame = None if stride is None else stride * frontend.hop
        self.log_frequency: LogFrequency | None = None
        if LOG_FREQUENCY in self.taps:
            self.log_frequency = LogFrequency(frontend.sample_rate, self.samples_per_frame)
        self.min_samples = self.accepted_length(frontend.samples_for(backbone.min_frames))
        self.eval()

    def accepted_length(self, samples: int) -> int:
        """Return the smallest number of samples, not below `samples`, that fills whole frames."""
        return samples + -samples % (self.samples_per_frame or 1)

    def forward(self, waveform: Tensor) -> Tensor:
        log_mel = aligned = self.frontend(waveform)
        stride = self.backbone.frame_stride
        if stride is not None:
            frames = waveform.shape[1] // (stride * self.frontend.hop)
            aligned = _with_frames(log_mel, frames * stride)
            log_mel = aligned if self.backbone.whole_frames else log_mel
        by_frame = aligned if stride is None else aligned.unflatten(2, (-1, stride))
        values = {tap: LOG_MEL_TAPS[tap](by_frame) for tap in self.taps if tap in LOG_MEL_TAPS}
        if self.log_frequency is not None:
            spectrum = self.log_frequency(waveform)
            values[LOG_FREQUENCY] = spectrum.mean(2) if stride is None else spectrum[:, :, :frames]
        if deeper := [tap for tap in self.taps if tap not in values]:
            with torch.autocast("cuda", torch.float16, enabled=self.autocast and waveform.is_cuda):
                values |= self.backbone(log_mel.to(self._dtype), deeper)
        if stride is not None:
            return concatenate_frames(values, self.taps, frames, self.pooling)
        return concatenate(values, self.taps, self.pooling)

    def exportable(self, *, half: bool = False, min_channels: int = 1) -> Extractor:
        """Return an extractor for inference, made of operations that every runtime supports.

        Args:
            half: Convert the backbone to float16.
            min_channels: Smallest number of channels, see `Backbone.exportable`.
        """
        backbone = self.backbone.exportable(min_channels)
        if half:
            backbone = copy.deepcopy(backbone).half()
        frontend = self.frontend.exportable()
        twin = Extractor(frontend, backbone, self.taps, self.pooling, autocast=False)
        if twin.log_frequency is not None:
            twin.log_frequency = twin.log_frequency.exportable()
        return twin

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.backbone.parameters()).dtype


def _with_frames(log_mel: Tensor, frames: int) -> Tensor:
    """Return a log-mel with exactly `frames` frames.

    A front-end may give one more, centred on the end of the waveform, which is dropped. It may give
    fewer if it does not pad; the last frame is then repeated.
    """
    missing = frames - log_mel.shape[2]
    if missing <= 0:
        return log_mel[:, :, :frames]
    return torch.cat([log_mel, log_mel[:, :, -1:].expand(-1, -1, missing)], dim=2)
