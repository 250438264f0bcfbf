"""Training in a few steps, to see that a network can be trained."""

import torch
from torch import nn


def assert_learns(network):
    """Teach a network to tell louder log-mels (128 bands, 32 frames) from others."""
    log_mel, labels = torch.randn(8, 128, 32), torch.tensor([0, 1] * 4)
    log_mel[labels == 1] += 1
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(log_mel)["logits"], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
