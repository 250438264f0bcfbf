"""The algorithm of EfficientAT_HEAR in plain PyTorch, as the reference for speed.

It computes the same numbers by the same steps as the original: mel filters are computed again in
every call, pre-emphasis is a convolution, batch norms are separate layers, the only branch of
every squeeze-and-excitation goes through the aggregation of several, blocks whose bottleneck is
collected are run a second time for it, and timestamp embeddings take one forward pass per window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.mel_banks import kaldi_mel_bank
from hear_core.networks.mobilenet_blocks import InvertedResidual
from hear_core.networks.squeeze_excitation import SqueezeExcitation
from hear_mn.mobilenet import MobileNet

_COLLECTED = (12, 13, 14, 15)


class OriginalLogMel(nn.Module):
    """Front-end of the original at its default resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(800, periodic=False), persistent=False)
        self.register_buffer("pre_emphasis", torch.tensor([[[-0.97, 1.0]]]), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the log-mel (batch, 128, frames) of waveforms (batch, samples) at 32 kHz."""
        x = F.conv1d(waveform.unsqueeze(1), self.pre_emphasis).squeeze(1)
        spectrum = torch.stft(
            x, 1024, 320, win_length=800, window=self.window, center=True, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        bank = kaldi_mel_bank(128, 1024, 32000, 0.0, 15000.0).to(power.device)
        return ((bank @ power + 1e-5).log() + 4.5) / 5.0


class Original:
    """The wrapper of the original, for the taps logits and e1.

    Args:
        network: Network with its original layers.
        half: Use float16 autocast, as the original does on CUDA.
    """

    window, hop = 5120, 1600

    def __init__(self, network: MobileNet, *, half: bool = False) -> None:
        device = next(network.parameters()).device
        self.front_end, self.network = OriginalLogMel().to(device), network.eval()
        self.half = half

    @torch.no_grad()
    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """Embed clips (clips, samples) of at most ten seconds, (clips, size)."""
        with torch.autocast(audio.device.type, torch.float16, enabled=self.half):
            return self._embed(self.front_end(audio).unsqueeze(1))

    def _embed(self, x: Tensor) -> Tensor:
        for index, stage in enumerate(self.network.features):
            if not isinstance(stage, InvertedResidual):
                x = stage(x)
                continue
            if index in _COLLECTED:
                self._block(stage, x, collect=True)
            y = self._block(stage, x)
            x = x + y if stage.residual else y
        logits = self.network.classifier(x)["logits"]
        return torch.cat([logits, F.adaptive_avg_pool2d(x, 1).flatten(1)], dim=1)

    @torch.no_grad()
    def get_timestamp_embeddings(self, audio: Tensor) -> Tensor:
        """Embed the windows of clips (clips, samples) one by one, (clips, windows, size)."""
        half = self.window // 2
        padded = F.pad(audio.unsqueeze(1), (half, half), mode="reflect").squeeze(1)
        windows = padded.unfold(1, self.window, self.hop).transpose(0, 1)
        return torch.stack([self.get_scene_embeddings(window) for window in windows], dim=1)

    @staticmethod
    def _block(stage: InvertedResidual, x: Tensor, *, collect: bool = False) -> Tensor:
        for layer in stage.block:
            if not isinstance(layer, SqueezeExcitation):
                x = layer(x)
                continue
            bottlenecks = layer.squeeze(x)
            if not collect:
                x = torch.stack([layer.excite(x, bottlenecks)]).max(dim=0)[0]
        return x
