"""Registry of the sequence models, by their names in EfficientSED."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hear_core.errors import ConfigError, unknown
from hear_sed.sequence.attention import SelfAttention, Transformer
from hear_sed.sequence.base import SequenceModel
from hear_sed.sequence.hybrid import Hybrid
from hear_sed.sequence.mamba import Mamba
from hear_sed.sequence.recurrent import BidirectionalGru, BidirectionalLstm
from hear_sed.sequence.temporal_convolution import TemporalConvolution

SEQUENCE_MODELS: Mapping[str, Callable[[int, int], SequenceModel]] = {
    "tf": Transformer,
    "attn": SelfAttention,
    "gru": BidirectionalGru,
    "hybrid": Hybrid,
    "tcn": TemporalConvolution,
    "mamba": Mamba,
    "rnn": BidirectionalGru,
    "lstm": BidirectionalLstm,
}
"""Constructors by name; each takes the number of input channels and the width of the model."""


def build_sequence_model(name: str, in_channels: int, dim: int) -> SequenceModel:
    """Return a sequence model with random weights.

    Raises:
        ConfigError: The name is unknown, or the width does not suit the model.
    """
    if name not in SEQUENCE_MODELS:
        raise ConfigError(unknown("sequence model", name, SEQUENCE_MODELS))
    try:
        return SEQUENCE_MODELS[name](in_channels, dim)
    except ConfigError as error:
        msg = f"sequence model {name!r}: {error}"
        raise ConfigError(msg) from None
