"""The contract of a backbone: a network from log-mel spectrograms to named taps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from hear_core.networks.batch_norm_folding import inference_copy
from hear_core.networks.taps import TapShape

LOGITS_ALIASES: Mapping[str, tuple[str, ...]] = {"l": ("logits",)}


class Backbone(nn.Module):
    """Base class of the networks that plug-in models are made of.

    A subclass sets the attributes below, on the class or in its constructor, and implements
    `forward`. Everything else is optional.

    Attributes:
        tap_shapes: Shape of the values of each tap, known without running the network.
        tap_aliases: Other names of taps, and names of groups of taps. An alias whose taps are not
            all in `tap_shapes` is not offered.
        class_layers: Prefixes of the parameters whose shapes depend on the number of classes.
        min_frames: Smallest number of log-mel frames that the network accepts.
        frame_stride: Number of log-mel frames per output frame, for a frame-wise network. None
            for a network that gives one result per clip.
        frame_centre: Log-mel frame that the first output frame is centred on.
        whole_frames: Whether a frame-wise network takes a log-mel of a multiple of `frame_stride`
            frames. If False, it takes the log-mel as its front-end computes it, for patches of
            its own, and gives one frame for every `frame_stride` hops of the waveform.
        traceable: Whether the network is made of operations that can be exported.
    """

    tap_shapes: Mapping[str, TapShape]
    tap_aliases: Mapping[str, tuple[str, ...]] = LOGITS_ALIASES
    class_layers: tuple[str, ...] = ()
    min_frames: int = 1
    frame_stride: int | None = None
    frame_centre: float = 0.0
    whole_frames: bool = True
    traceable: bool = True

    @property
    def framewise(self) -> bool:
        """Whether the network gives a result for every frame instead of one per clip."""
        return self.frame_stride is not None

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        """Return the requested taps, running the network only as deep as they need.

        Args:
            log_mel: Log-mel spectrograms (batch, n_mels, frames), with at least `min_frames`
                frames, and a multiple of `frame_stride` if the network takes `whole_frames`.
            taps: Names of the taps, keys of `tap_shapes`.

        Returns:
            By tap: vectors (batch, channels), maps (batch, channels, bands, frames), or, from
            frame-wise networks only, vectors of every frame (batch, channels, frames).
        """
        raise NotImplementedError

    def exportable(self, min_channels: int = 1) -> Self:
        """Return a copy for inference, made of operations that every runtime supports.

        The copy is in evaluation mode and its batch norms are folded into convolutions. Weights
        that folding does not change are shared with the original. Override this to replace
        operations that ONNX lacks.

        Args:
            min_channels: Smallest number of channels that the runtime computes efficiently. A
                convolutional network may pad its maps to it; the taps stay the same.
        """
        return inference_copy(self)

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        """Return chains of layers that can be computed a few channels at a time.

        The layers of a chain run one after another. Between the first and the last of them no
        channel depends on another, so that the maps in between never have to exist as a whole.
        `hear_core.analysis.complexity.peak_memory` uses this.
        """
        return ()
