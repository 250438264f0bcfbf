"""Folding batch norms into the convolutions before them, for networks that only infer."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution in a sequence, in place.

    What the network computes in evaluation mode stays the same up to rounding; it cannot be
    trained further, nor does it fit its checkpoint any more.

    Args:
        network: Any network; put into evaluation mode.
    """
    network.eval()
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for (name, layer), (next_name, next_layer) in zip(
            list(sequence.named_children()), list(sequence.named_children())[1:], strict=False
        ):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                setattr(sequence, name, fuse_conv_bn_eval(layer, next_layer))
                setattr(sequence, next_name, nn.Identity())
