"""Frame-wise training: losses between the frames of a detector, labels, and teachers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_train.batch import Batch, Targets
from hear_train.objectives.objective import Objective
from hear_train.objectives.supervised import binary_cross_entropy


@dataclass(frozen=True)
class DetectionWeights:
    """Weights of the terms of the loss of a detector.

    Args:
        labels: Weight of the labels of frames. Without a teacher it is 1.
        teacher: Weight of the teacher, whether stored or live.
        labelled_share: Share of the clips with labels of their frames in the term of the teacher,
            where there is also a batch of clips without such labels.
        clip_labels: Weight of the labels of the clips without labels of their frames.
    """

    labels: float = 0.1
    teacher: float = 0.9
    labelled_share: float = 0.5
    clip_labels: float = 0.0

    def __post_init__(self) -> None:
        if min(self.labels, self.teacher, self.clip_labels) < 0 or not self.labels + self.teacher:
            msg = f"the weights of a detector's loss must be 0 or more, and not all 0: {self}"
            raise ConfigError(msg)
        if not 0 <= self.labelled_share <= 1:
            msg = f"labelled_share must be from 0 to 1, not {self.labelled_share:g}"
            raise ConfigError(msg)


class Detection(Objective):
    """Frame-wise training of a detector, with labels, a teacher, or both.

    The loss is that of Morocutti et al., "Exploring Performance-Complexity Trade-Offs in Sound
    Event Detection Models" (EUSIPCO 2025): the mean binary cross-entropy over classes and frames,
    weighted between labels and teacher. With a batch of clips without labels of their frames, the
    term of the teacher is divided between both batches (section IV.D). Both batches run through the
    network one after the other, each with batch statistics of its own.

    Args:
        network: Frame-wise network.
        weights: Weights of the terms.

    Raises:
        ConfigError: The network is not frame-wise.
    """

    def __init__(self, network: Backbone, weights: DetectionWeights) -> None:
        super().__init__()
        if not network.framewise:
            msg = (
                "events are detected by a frame-wise network, such as fmn10: set model.backbone to "
                "one of `hear modules`"
            )
            raise ConfigError(msg)
        self.network, self.weights = network, weights

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, and its terms before they are weighted."""
        logits = self._frames(batch.log_mel)
        terms = {"labels": strong_cross_entropy(logits, batch.targets)}
        if batch.teacher is None:
            return {"loss": terms["labels"]}
        terms["teacher"] = strong_cross_entropy(logits, batch.teacher)
        loss, share = self.weights.labels * terms["labels"], 1.0
        if (more := batch.unlabelled) is not None:
            share = self.weights.labelled_share
            outputs = self.network(more.log_mel, self._taps())
            assert more.teacher is not None  # noqa: S101 - the preprocessing sets it
            terms["unlabelled"] = strong_cross_entropy(_of_frames(outputs), more.teacher)
            loss = loss + self.weights.teacher * (1 - share) * terms["unlabelled"]
            if self.weights.clip_labels:
                weak = outputs["weak"].float()
                terms["clip_labels"] = binary_cross_entropy(weak, more.targets).mean()
                loss = loss + self.weights.clip_labels * terms["clip_labels"]
        loss = loss + self.weights.teacher * share * terms["teacher"]
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def _frames(self, log_mel: Tensor | None) -> Tensor:
        return _of_frames(self.network(log_mel, ("logits",)))

    def _taps(self) -> tuple[str, ...]:
        return ("logits", "weak") if self.weights.clip_labels else ("logits",)


def strong_cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    """Return the mean binary cross-entropy over clips, classes and frames.

    Args:
        logits: Logits (batch, classes, frames).
        targets: Strong targets, from 0 to 1. If they have a frame more or less at the end, as
            networks that work on patches do, the last frames do not count.
    """
    assert targets.strong is not None  # noqa: S101 - a source of events gives strong targets
    frames = min(logits.shape[-1], targets.strong.shape[-1])
    return F.binary_cross_entropy_with_logits(logits[..., :frames], targets.strong[..., :frames])


def _of_frames(outputs: dict[str, Tensor]) -> Tensor:
    """Return the logits of frames, (batch, classes, frames), float32."""
    return outputs["logits"].squeeze(2).float()
