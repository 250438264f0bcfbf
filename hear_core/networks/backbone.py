"""What every backbone is: a network from log-mels to named taps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hear_core.networks.taps import TapShape


class Backbone(nn.Module):
    """Base of the networks that a plug-in can be made of.

    Attributes:
        tap_shapes: The taps that a network offers and what each gives, known without running it.
        class_layers: Prefixes of the parameters whose shapes depend on the number of classes.
        min_frames: Frames that the shortest log-mel must have, as poolings need some.
        frame_stride: Frames of the log-mel behind each frame of a network that hears frame by
            frame; None for one that hears clips as a whole.
    """

    tap_shapes: Mapping[str, TapShape]
    class_layers: tuple[str, ...]
    min_frames: int = 1
    frame_stride: int | None = None

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        """Run as far as the deepest of `taps`, and no further, and return what was tapped.

        Args:
            log_mel: (batch, n_mels, frames), of at least `min_frames` frames.
            taps: Keys of `tap_shapes`.

        Returns:
            Vectors (batch, channels) and maps (batch, channels, bands, frames), by tap.
        """
        raise NotImplementedError

    def in_parts(self) -> Sequence[Sequence[nn.Module]]:
        """Return chains of layers that can be computed together, some channels at a time.

        The layers of a chain run one after another. Between the first and the last of them no
        channel needs another, so that what is between them never has to be there as a whole.
        """
        return ()
