"""Targets and batches: the input of the training loop, and how targets move with the sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Targets of a batch; each part is optional.

    Args:
        weak: Classes of the clips, (batch, classes), from 0 to 1.
        strong: Classes of the frames, (batch, classes, frames), from 0 to 1.
        known: Whether a class of a clip was annotated, (batch, classes), bool; None if all were.
            Targets that are not known are 0.
    """

    weak: Tensor | None = None
    strong: Tensor | None = None
    known: Tensor | None = None

    def mix(self, partners: Targets, share: Tensor) -> Targets:
        """Return the targets of sounds that are mixed.

        A class is known in a mix if it is known in one of both sounds, as in EfficientAT's mixing
        for OpenMIC. A mix with a clip without labels has no labels.

        Args:
            partners: Targets of the sounds that these are mixed with, in the same order.
            share: Share of these sounds in the mix, (batch,).
        """
        known = None
        if self.known is not None and partners.known is not None:
            annotated = self.known.any(1, keepdim=True) & partners.known.any(1, keepdim=True)
            known = (self.known | partners.known) & annotated
        return Targets(
            mix_rows(self.weak, partners.weak, share),
            mix_rows(self.strong, partners.strong, share),
            known,
        )

    def roll(self, frames: Tensor) -> Targets:
        """Return the targets of sounds that are shifted in a circle.

        Args:
            frames: Frames by which each sound is shifted, (batch,), int64.
        """
        strong = None if self.strong is None else roll_rows(self.strong, frames)
        return Targets(self.weak, strong, self.known)

    def __getitem__(self, rows: Tensor | slice) -> Targets:
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> Targets:
        """Return the targets on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Targets:
        parts = (getattr(self, part.name) for part in fields(self))
        return Targets(*(None if part is None else function(part) for part in parts))


class Batch(NamedTuple):
    """A batch of clips.

    Attributes:
        step: Number that is unique to this batch, and that all random draws depend on.
        waveform: Waveforms (batch, samples) in [-1, 1].
        targets: Labels.
        names: Names of the clips, for messages.
        skipped: Reasons why clips were replaced by others, by name.
        log_mel: Input of the network, (batch, n_mels, frames); None until it is computed.
        teacher: Targets by a teacher, if there is one.
        taps: Taps of the teacher by name.
        unlabelled: Batch of clips without labels of their frames, which only a teacher labels.
        lengths: Samples of each clip before its padding, (batch,), int64; None if all clips are as
            long as the waveforms.
        frames: Frames of each clip in `log_mel`, (batch,), int64; None as `lengths`.
    """

    step: int
    waveform: Tensor
    targets: Targets = Targets()
    names: tuple[str, ...] = ()
    skipped: Mapping[str, str] = {}
    log_mel: Tensor | None = None
    teacher: Targets | None = None
    taps: Mapping[str, Tensor] = {}
    unlabelled: Batch | None = None
    lengths: Tensor | None = None
    frames: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return self._replace(
            waveform=self.waveform.to(device),
            targets=self.targets.to(device),
            log_mel=None if self.log_mel is None else self.log_mel.to(device),
            teacher=None if self.teacher is None else self.teacher.to(device),
            taps={name: tap.to(device) for name, tap in self.taps.items()},
            unlabelled=None if self.unlabelled is None else self.unlabelled.to(device),
            lengths=None if self.lengths is None else self.lengths.to(device),
            frames=None if self.frames is None else self.frames.to(device),
        )


class BatchSource(Protocol):
    """Batches by number: the same number gives the same batch, in any order and process.

    Attributes:
        batch_size: Clips of a batch, in one process.
    """

    batch_size: int

    def __getitem__(self, step: int) -> Batch:
        """Return a batch by its number."""


@dataclass(frozen=True)
class Pairs:
    """Partners that the rows of a batch are mixed with, and the shares of the rows.

    Args:
        partner: Row of the partner, (batch,), int64.
        share: Share of the row itself, (batch,).
    """

    partner: Tensor
    share: Tensor = field(repr=False)

    def to(self, device: torch.device) -> Pairs:
        """Return the pairs on a device."""
        return Pairs(self.partner.to(device), self.share.to(device))

    def mix(self, rows: Tensor) -> Tensor:
        """Return a tensor (batch, …) whose rows are mixed."""
        return _weighted(rows, rows[self.partner], self.share)

    def mix_targets(self, targets: Targets) -> Targets:
        """Return the targets of the mixed rows."""
        return targets.mix(targets[self.partner], self.share)


def roll_rows(rows: Tensor, shifts: Tensor) -> Tensor:
    """Return rows (batch, …, frames) that are shifted in a circle, each by its own number.

    Args:
        rows: The rows.
        shifts: Frames by which each row is shifted, (batch,), int64.
    """
    places = torch.arange(rows.shape[-1], device=rows.device)
    index = (places - shifts[:, None]) % rows.shape[-1]
    index = index.view(len(rows), *[1] * (rows.ndim - 2), -1)
    return rows.gather(-1, index.expand_as(rows))


def mix_rows(own: Tensor | None, partners: Tensor | None, share: Tensor) -> Tensor | None:
    """Return rows mixed with partners, (batch, …); None if one of both is missing."""
    return None if own is None or partners is None else _weighted(own, partners, share)


def _weighted(own: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    share = share.view(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * partners
