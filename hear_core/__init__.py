"""Ground floor: what every plug-in shares, from the audio file to the HEAR API.

The way of the data is the list of modules: `audio` (file to waveform), `framing` (waveform to
windows), `frontend` (window to log-mel), a backbone (log-mel to taps), `taps` (to embedding),
`extractor` (these together), `engine` (what runs it), `plugin` (the HEAR API). `zoo`,
`checkpoints` and `download` bring the weights; `configs` and `modules` make a line of YAML an
importable plug-in; `graph` and `export` make ONNX files; `operations` and `complexity` count what
a network costs.
"""

from hear_core.audio import read_audio
from hear_core.errors import AudioError, CheckpointError, ConfigError, HearError
from hear_core.extractor import Extractor
from hear_core.frontend import DecibelMel, LogMel
from hear_core.plugin import PluginModel

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DecibelMel",
    "Extractor",
    "HearError",
    "LogMel",
    "PluginModel",
    "read_audio",
]
