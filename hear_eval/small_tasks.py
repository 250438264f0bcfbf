"""Small tasks to judge embeddings by: sounds of Debian packages, and synthetic notes.

| task | classes | folds keep together | sounds |
|---|---|---|---|
| ``drums`` | 6 instruments of a drum kit | a kit | package ``hydrogen-drumkits`` |
| ``letters`` | 26 names of letters, in the Latin alphabets of ten languages | a language, whose \
speaker is one | package ``klettres-data`` |
| ``languages`` | 12 languages | the name that is spoken | package ``tuxpaint-stamps-default`` |
| ``samples`` | 9 kinds of samples: tabla, loops, kicks ... | each sound alone | package \
``sonic-pi-samples`` |
| ``pitch`` | 48 semitones | a timbre | synthetic |
| ``polyphony`` | 1 to 5 notes at a time | a timbre | synthetic |

The sounds are not part of this project: the packages are under the licences GPL 2 or Creative
Commons, as their copyright files say, and are read where they are installed or extracted. In
``languages`` a language has few speakers, who are in all folds; it measures voices as well.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import soundfile

from hear_core.audio.files import find_audio_files
from hear_eval.tasks.description import TaskError
from hear_eval.tasks.making import make_task
from hear_eval.tasks.recordings import Recording, with_splits
from hear_eval.tasks.synthetic_notes import SAMPLE_RATE, random_timbre, synthesise_notes

_FOLDS = {f"fold{fold:02}": 1.0 for fold in range(1, 6)}
_SEED = 0
OnFile = Callable[[int, int], object]


class SmallTask(NamedTuple):
    """A small task.

    Args:
        find: Function from a folder to recordings with a label and a group each. The folder is that
            of the sounds of a package, or an empty one in which synthetic sounds are written.
        sounds: Folder of the sounds below the root of an installed or extracted package; empty for
            synthetic sounds.
        package: Debian package of the sounds.
        seconds: Length of the clips in seconds.
    """

    find: Callable[[Path], Iterator[Recording]]
    sounds: str = ""
    package: str = ""
    seconds: float = 1.0


# Which instrument a sample of a kit is, by the first expression that its name matches.
_DRUMS: Mapping[str, str] = {
    r"clap|rim|stick|cowbell|bell|conga|bongo|djembe|agogo|tambourine|click|drag": "",
    r"kick|bass ?drum|^bd|_bd": "kick",
    r"hi ?-?hat|\bhat|_hat|closehihat|hh|^h[oc]\b|_hh": "hihat",
    r"snare|^[sjr]?sd\b|^s[rd]\b|jsnare|rsnare": "snare",
    r"tom|^ft\b|^t\d": "tom",
    r"ride|^r[cd]?\b": "ride",
    r"crash|^cra|china|splash|^cc\b": "crash",
}
_LATIN = ("da", "de", "en", "en_GB", "es", "hu", "it", "nb", "nds", "nl", "pt_BR", "lt")
_LANGUAGES = ("be", "bg", "ca", "da", "el", "en", "es", "fr", "lt", "nl", "ro", "ru")
_PER_LANGUAGE = 64
_FEWEST_SAMPLES = 8
_TIMBRES = 15
_NOTES = range(36, 84)  # MIDI numbers: four octaves from C2
_CHORDS_PER_TIMBRE, _MAX_VOICES = 30, 5


def _drums(sounds: Path) -> Iterator[Recording]:
    for path, _ in find_audio_files([sounds]).sources:
        name = re.sub(r"[\s_]+", " ", path.stem.lower())
        label = next((drum for pattern, drum in _DRUMS.items() if re.search(pattern, name)), "")
        if label:
            yield _recording(path, sounds, label, path.parent.name)


def _letters(sounds: Path) -> Iterator[Recording]:
    for path, name in find_audio_files([sounds]).sources:
        language, _, rest = name.partition("/")
        if language in _LATIN and re.fullmatch(r"alpha/[a-z]\.\w+", rest.lower()):
            yield _recording(path, sounds, path.stem.lower(), language)


def _languages(sounds: Path) -> Iterator[Recording]:
    spoken = defaultdict[str, list[Recording]](list)
    for path, _ in find_audio_files([sounds]).sources:
        stem, spoken_name, language = path.stem.lower().partition("_desc")
        language = language.removeprefix("_") or "en"  # a name without a language is English
        if spoken_name and language in _LANGUAGES:
            group = (path.parent / stem).relative_to(sounds).as_posix()
            spoken[language].append(_recording(path, sounds, language, group))
    for language in sorted(spoken):
        # The same names in all languages, as far as they have them.
        by_name = sorted(spoken[language], key=lambda r: zlib.crc32(r.group.encode()))
        yield from by_name[:_PER_LANGUAGE]


def _samples(sounds: Path) -> Iterator[Recording]:
    found = list(find_audio_files([sounds]).sources)
    kinds = Counter(path.stem.partition("_")[0] for path, _ in found)
    for path, name in found:
        kind = path.stem.partition("_")[0]
        if kinds[kind] >= _FEWEST_SAMPLES:
            yield _recording(path, sounds, kind, name)


def _pitch(folder: Path) -> Iterator[Recording]:
    rng = np.random.default_rng(_SEED)
    for index in range(_TIMBRES):
        timbre = random_timbre(rng)
        for pitch in _NOTES:
            waveform = synthesise_notes([pitch], [timbre], rng)
            yield _written(folder, f"timbre{index:02}_note{pitch}", waveform, f"{pitch}", index)


def _polyphony(folder: Path) -> Iterator[Recording]:
    rng = np.random.default_rng(_SEED + 1)
    for index in range(_TIMBRES):
        timbre = random_timbre(rng)
        for take in range(_CHORDS_PER_TIMBRE):
            voices = 1 + take % _MAX_VOICES
            pitches = rng.choice(_NOTES, voices, replace=False)
            waveform = synthesise_notes(pitches.tolist(), [timbre] * voices, rng)
            yield _written(folder, f"timbre{index:02}_{take:02}", waveform, f"{voices}", index)


SMALL_TASKS: Mapping[str, SmallTask] = {
    "drums": SmallTask(_drums, "usr/share/hydrogen/data/drumkits", "hydrogen-drumkits"),
    "letters": SmallTask(_letters, "usr/share/klettres", "klettres-data"),
    "languages": SmallTask(
        _languages, "usr/share/tuxpaint/stamps", "tuxpaint-stamps-default", seconds=2.0
    ),
    "samples": SmallTask(_samples, "usr/share/sonic-pi/samples", "sonic-pi-samples", seconds=2.0),
    "pitch": SmallTask(_pitch),
    "polyphony": SmallTask(_polyphony),
}


def available_tasks(roots: Sequence[Path] = ()) -> dict[str, Path | None]:
    """Return the tasks whose sounds are available, and the folders of their sounds.

    Args:
        roots: Folders in which packages were extracted, in addition to ``/``.

    Returns:
        Folder of the sounds by name of the task; None for synthetic sounds.
    """
    found: dict[str, Path | None] = {}
    for name, task in SMALL_TASKS.items():
        folders = [root / task.sounds for root in (*roots, Path("/"))]
        if not task.sounds:
            found[name] = None
        elif there := [folder for folder in folders if folder.is_dir()]:
            found[name] = there[0]
    return found


def make_small_task(
    folder: Path, name: str, sounds: Path | None = None, *, progress: OnFile | None = None
) -> Path:
    """Make a small task, in five folds.

    Args:
        folder: Folder in which the folder of the task is made.
        name: A key of `SMALL_TASKS`.
        sounds: Folder of the sounds, see `available_tasks`.
        progress: Called after every file with the number of files written and of all files.

    Returns:
        The folder of the task.

    Raises:
        TaskError: There are too few sounds, or the task exists.
        AudioError: A file cannot be read.
        FileError: A file cannot be written.
    """
    task = SMALL_TASKS[name]
    with TemporaryDirectory() as written:
        recordings = list(task.find(sounds or Path(written)))
        counts = Counter(recording.labels[0] for recording in recordings)
        groups = {recording.group for recording in recordings}
        if len(groups) < len(_FOLDS) or len(counts) < 2:
            msg = (
                f"{sounds} has {len(recordings)} sounds of {len(counts)} classes for the task "
                f"{name}; it must be the folder {task.sounds} of the package {task.package}"
            )
            raise TaskError(msg)
        return make_task(
            folder,
            name,
            with_splits(recordings, _FOLDS, _SEED),
            "multiclass",
            seconds=task.seconds,
            sample_rates=[SAMPLE_RATE],
            progress=progress,
        )


def _recording(path: Path, sounds: Path, label: str, group: str) -> Recording:
    return Recording(path, path.relative_to(sounds).as_posix(), (label,), group=group)


def _written(folder: Path, name: str, waveform: np.ndarray, label: str, group: int) -> Recording:
    path = folder / f"{name}.wav"
    soundfile.write(path, waveform, SAMPLE_RATE)
    return Recording(path, path.name, (label,), group=str(group))
