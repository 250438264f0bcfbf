"""The parts that all packages share, from audio files to the HEAR API.

The folders, from the bottom up: `errors`; `io` (writing files), `audio` (files to waveforms),
`events` (scores to events), `metrics`; `frontends` (waveform to log-mel), `networks` (log-mel to
taps, and the `Extractor` that joins both), `zoo` (records of networks and their weights),
`analysis` (costs of networks), `runtime` (engines), `plugins` (the HEAR API), `export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hear_core._version import __version__
from hear_core.errors import AudioError, CheckpointError, ConfigError, HearError
from hear_core.lazy_attributes import lazy_attributes

if TYPE_CHECKING:
    from hear_core.audio.reading import read_audio
    from hear_core.frontends.log_mel import DecibelMel, LogMel
    from hear_core.networks.extractor import Extractor
    from hear_core.plugins.names import list_models, load_model
    from hear_core.plugins.plugin_model import PluginModel

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DecibelMel",
    "Extractor",
    "HearError",
    "LogMel",
    "PluginModel",
    "__version__",
    "list_models",
    "load_model",
    "read_audio",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "read_audio": "hear_core.audio.reading",
        "DecibelMel": "hear_core.frontends.log_mel",
        "LogMel": "hear_core.frontends.log_mel",
        "Extractor": "hear_core.networks.extractor",
        "list_models": "hear_core.plugins.names",
        "load_model": "hear_core.plugins.names",
        "PluginModel": "hear_core.plugins.plugin_model",
    },
)
