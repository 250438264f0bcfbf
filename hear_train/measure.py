"""How near a student is to its teacher, on clips that it has not learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.frontends.log_mel import Frontend

_LEAST = 1e-7


class Nearness(NamedTuple):
    """Figures of a student against its teacher.

    Attributes:
        bce: Binary cross-entropy, mean over clips and classes.
        kl: What of it is above the least there can be, summed over the classes: the divergence
            of the student's 527 yes-or-no distributions from the teacher's, mean over clips.
        mAP: Mean average precision where the classes that the teacher gives at least the threshold
            are right, over those that have any.
        top1: Share of clips whose first class is the teacher's.
        top1_in_3: Share of clips whose first three classes have the teacher's first.
    """

    bce: float
    kl: float
    mAP: float  # noqa: N815
    top1: float
    top1_in_3: float


@torch.no_grad()
def logits(network: nn.Module, frontend: Frontend, waveforms: Iterable[np.ndarray]) -> np.ndarray:
    """Return what a network says of clips, each heard as a whole, (clips, classes)."""
    training = network.training
    network.eval()
    found = [network(frontend(_heard(w, frontend)), ("logits",))["logits"][0] for w in waveforms]
    network.train(training)
    return torch.stack(found).numpy()


def nearness(student: np.ndarray, teacher: np.ndarray, threshold: float = 0.3) -> Nearness:
    """Compare logits (clips, classes).

    Args:
        student: Of the student.
        teacher: Of the teacher.
        threshold: Probability from which on the teacher means that a class is there.
    """
    said, right = (_probabilities(x) for x in (student, teacher))
    cross = _entropy(right, said)
    first = teacher.argmax(1)
    top = np.argsort(-student, axis=1, kind="stable")[:, :3]
    return Nearness(
        bce=float(cross.mean()),
        kl=float((cross - _entropy(right, right)).sum(1).mean()),
        mAP=mean_average_precision(student, right >= threshold),
        top1=float((top[:, 0] == first).mean()),
        top1_in_3=float((top == first[:, None]).any(1).mean()),
    )


def mean_average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the mean of the average precisions of the classes that are present somewhere.

    Args:
        scores: (clips, classes).
        present: The same, true where a class is there.

    Returns:
        NaN if nothing is present.
    """
    some = present.any(0)
    columns = zip(scores[:, some].T, present[:, some].T, strict=True)
    found = [average_precision(score, true) for score, true in columns]
    return float(np.mean(found)) if found else float("nan")


def average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the precision at every clip that is right, in the order of scores, averaged.

    Clips with equal scores count as one step, which they all take together.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, true = scores[order], present[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    hits, seen = np.cumsum(true)[last], np.flatnonzero(last) + 1
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / seen).sum() / hits[-1])


def as_text(figures: Mapping[str, Nearness]) -> str:
    """Return figures of several students as a table in Markdown."""
    names = Nearness._fields
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for who, row in figures.items():
        lines.append(f"| {who} | {' | '.join(f'{value:.4f}' for value in row)} |")
    return "\n".join(lines)


def _heard(waveform: np.ndarray, frontend: Frontend) -> Tensor:
    short = max(0, frontend.min_samples - len(waveform))
    return torch.from_numpy(np.pad(waveform, (0, short)))[None]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _entropy(right: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of every clip and class, in nats."""
    said = said.clip(_LEAST, 1 - _LEAST)
    return -(right * np.log(said) + (1 - right) * np.log1p(-said))
