"""Agreement of a student with its teacher, on clips that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.frontends.log_mel import Frontend
from hear_core.metrics.ranking import average_precisions

_MIN_PROBABILITY = 1e-7


class Agreement(NamedTuple):
    """Metrics of a student against its teacher.

    Attributes:
        bce: Binary cross-entropy, mean over clips and classes, in nats.
        kl: Kullback-Leibler divergence of the student's binary distributions from the teacher's,
            summed over the classes, mean over the clips.
        mAP: Mean average precision, with the classes as labels that the teacher gives at least the
            threshold, over the classes that occur.
        top1: Share of clips whose most probable class is that of the teacher.
        top1_in_3: Share of clips in which the teacher's most probable class is among the student's
            first three.
    """

    bce: float
    kl: float
    mAP: float  # noqa: N815
    top1: float
    top1_in_3: float


@torch.no_grad()
def predict_logits(
    network: nn.Module, frontend: Frontend, waveforms: Iterable[np.ndarray]
) -> np.ndarray:
    """Return the logits of clips, each in one piece, (clips, classes).

    Args:
        network: Network with the tap ``logits``.
        frontend: Its front-end.
        waveforms: Waveforms (samples,).
    """
    training = network.training
    network.eval()
    found = [network(frontend(_padded(w, frontend)), ("logits",))["logits"][0] for w in waveforms]
    network.train(training)
    return torch.stack(found).numpy()


def agreement(student: np.ndarray, teacher: np.ndarray, threshold: float = 0.3) -> Agreement:
    """Compare logits (clips, classes).

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher.
        threshold: Probability from which on the teacher counts a class as present.
    """
    predicted, wanted = (_probabilities(x) for x in (student, teacher))
    cross = _entropy(wanted, predicted)
    first = teacher.argmax(1)
    top = np.argsort(-student, axis=1, kind="stable")[:, :3]
    present = wanted >= threshold
    some = present.any(0)
    precisions = average_precisions(student[:, some], present[:, some])
    return Agreement(
        bce=float(cross.mean()),
        kl=float((cross - _entropy(wanted, wanted)).sum(1).mean()),
        mAP=float(precisions.mean()) if some.any() else float("nan"),
        top1=float((top[:, 0] == first).mean()),
        top1_in_3=float((top == first[:, None]).any(1).mean()),
    )


def as_markdown(rows: Mapping[str, Agreement]) -> str:
    """Return the metrics of several students as a table in Markdown."""
    names = Agreement._fields
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for value in row)} |")
    return "\n".join(lines)


def _padded(waveform: np.ndarray, frontend: Frontend) -> Tensor:
    short = max(0, frontend.min_samples - len(waveform))
    return torch.from_numpy(np.pad(waveform, (0, short)))[None]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _entropy(wanted: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of every clip and class, in nats."""
    predicted = predicted.clip(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return -(wanted * np.log(predicted) + (1 - wanted) * np.log1p(-predicted))
