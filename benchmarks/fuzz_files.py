"""Doors of the fuzz that take a file or an array, see `benchmarks.fuzz_doors`."""

from __future__ import annotations

import io
import json
import logging
import pickle
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml

from benchmarks.mutations import (
    ARRAYS,
    NAMES,
    NUMBERS,
    TENSORS,
    WORDS,
    mutated_bytes,
    mutated_text,
    mutated_value,
)
from hear_core.audio.reading import read_audio, read_blocks
from hear_core.errors import HearError

RATE = 8000


class WrongResultError(Exception):
    """A result that is not the right one, without a word."""


def require(condition: object, message: str) -> None:
    """Raise if a result is wrong."""
    if not condition:
        raise WrongResultError(message)


def noise(samples: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Return noise that fades in and out, (samples,) or (samples, channels)."""
    shape = (samples,) if channels == 1 else (samples, channels)
    found = np.random.default_rng(seed).uniform(-0.5, 0.5, shape)
    return (found * np.hanning(samples).reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)


# --- Audio files ----------------------------------------------------------------------------------

KINDS: Mapping[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "24.wav": ("WAV", "PCM_24"),
    "ulaw.wav": ("WAV", "ULAW"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "voc": ("VOC", "PCM_16"),
    "nist": ("NIST", "PCM_16"),
    "ircam": ("IRCAM", "PCM_16"),
    "mat": ("MAT5", "PCM_16"),
    "svx": ("SVX", "PCM_16"),
    "xi": ("XI", "DPCM_16"),
}
CHAINED = ("wav", "flac", "ogg", "opus", "mp3")
"""Formats whose files can be appended to each other."""


@dataclass(frozen=True)
class Sounds:
    """Encoded sounds by kind, one of each number of channels, and their numbers of samples."""

    content: Mapping[tuple[str, int], bytes]
    samples: Mapping[tuple[str, int], int]


def prepare_audio(folder: Path) -> Sounds:
    """Encode a sound in every format, mono and stereo."""
    content, samples = {}, {}
    for kind, (format_, subtype) in KINDS.items():
        for channels in (1, 2):
            path = folder / f"{channels}.{kind}"
            try:
                soundfile.write(
                    path, noise(RATE, channels, channels), RATE, format=format_, subtype=subtype
                )
            except (soundfile.LibsndfileError, ValueError):  # a format of one channel
                continue
            content[kind, channels] = path.read_bytes()
            samples[kind, channels] = len(read_audio(path, RATE))
    return Sounds(content, samples)


def attempt_audio(sounds: Sounds, work: Path, rng: random.Random, canary: Path) -> None:
    """Read a damaged file, or two that are appended; in blocks it must be the same."""
    kind, _ = key = rng.choice(list(sounds.content))
    content, other = sounds.content[key], sounds.content[rng.choice(list(sounds.content))]
    path = work / f"a.{kind.rpartition('.')[2]}"
    wanted = cut = 0
    choice = rng.random()
    if choice < 0.05 and kind in CHAINED:
        path.write_bytes(content * 3)
        wanted = 3 * sounds.samples[key]
    elif choice < 0.15:
        cut = rng.randrange(len(content))
        path.write_bytes(content[:cut])
    else:
        path.write_bytes(mutated_bytes(content, rng, other))
    sample_rate = rng.choice([RATE, RATE, 16000])
    with warnings_of("hear_core.audio") as warned:
        whole = read_audio(path, sample_rate).numpy()
    require(whole.ndim == 1 and len(whole), f"{path.name}: shape {whole.shape}")
    require(np.isfinite(whole).all(), f"{path.name}: NaN or infinite samples")
    if len(whole) < 20 * RATE:
        blocks = np.concatenate(list(read_blocks(path, sample_rate, 5000)))
        require(np.array_equal(whole, blocks), f"{path.name}: blocks are not the whole file")
    seconds = len(whole) / sample_rate
    if wanted:
        require(abs(seconds - wanted / RATE) < 0.06, f"{path.name}: {seconds} s of three files")
    missing = sounds.samples[key] / RATE - seconds
    if cut and missing > 0.08 and kind not in UNKNOWABLE:
        require(warned, f"{path.name}: {missing:.3f} s are missing after byte {cut}, not said")


UNKNOWABLE = frozenset({"ircam", "xi"})
"""Formats whose truncation cannot be seen, as nothing in the file tells its length."""


@contextmanager
def warnings_of(name: str) -> Iterator[list[str]]:
    """Provide a list of the warnings that a logger gives."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger(name).addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger(name).removeHandler(handler)


# --- Tensors --------------------------------------------------------------------------------------


def prepare_tensors(folder: Path) -> Any:
    """Load small models of each kind."""
    import hear_mn.mn01_all_b_mel_avgs as plugin

    from hear_mn import EATagger
    from hear_sed import Detector

    model = plugin.load_model(pretrained=False, engine="torch")
    tagger = EATagger("mn01_as", pretrained=False)
    detector = Detector("fmn04", pretrained=False, engine="torch", window=1.0, hop=0.5)
    return model, tagger, detector


def attempt_tensor(models: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Give models a tensor or an array of another shape, type or content."""
    model, tagger, detector = models
    with torch.no_grad():
        given: Any = torch.from_numpy(noise(rng.choice([1, 2, 100, 5000, 20000]), 1))
    choice = rng.randrange(5)
    if choice < 2:
        given = rng.choice(TENSORS)(given[None].repeat(2, 1))
        if choice == 0:
            found = model.get_scene_embeddings(given)
            require(found.shape == (len(given), model.scene_embedding_size), f"{found.shape}")
        else:
            found, times = model.get_timestamp_embeddings(given)
            require(found.shape[:2] == times.shape, f"{found.shape} {times.shape}")
        require(torch.isfinite(found).all(), "embeddings that are not finite")
        return
    change = rng.choice(ARRAYS)
    given = change(given.numpy()) if rng.random() < 0.6 else rng.choice(TENSORS)(given)
    rate = rng.choice([None, None, 32000, 16000, 0, -1, float("nan"), 1e12, "8000"])
    if choice == 2:
        found = tagger.windows(
            given, rng.choice([1.0, 0.5]), rng.choice([0.3, 1.0]), sample_rate=rate
        )
    elif choice == 3:
        found = detector.frames(given, sample_rate=rate)
    else:
        from hear_mn.streaming import TagStream

        stream = TagStream(tagger, 0.5, 0.5)
        stream.feed(given)
        found = stream.finish(noise(100))
    require(np.isfinite(found.scores).all(), "scores that are not finite")
    require((found.scores >= 0).all() and (found.scores <= 1).all(), "scores out of range")
    require((found.offset >= found.onset).all(), "events of negative length")


# --- YAML and JSON --------------------------------------------------------------------------------

CONFIG = """\
mine: {backbone: mn01_as, taps: [b3, logits], timestamp_window: 0.16, scene_hop: 5}
other: {backbone: mn04_as, taps: [all_b]}
same: mine
"""
THRESHOLDS = "Speech: 0.5\nMusic: 0.25\nDog: 1\n"
GROUPS = "Rail: [Train, 'Subway, metro, underground']\nPets: [Dog, Cat]\n"
RECIPES = ("esc50", "distill", "classify")


def prepare_yaml(folder: Path) -> Any:
    """Return valid texts and what reads them."""
    from hear_core.plugins import configs
    from hear_core.zoo.labels import audioset_labels, read_groups, read_thresholds
    from hear_train.recipe_files import list_recipes, recipe_text
    from hear_train.recipes import Recipe, load_recipe

    def config(path: Path) -> Any:
        configs._read_all.cache_clear()  # the file has the same path every time
        return configs._read_all(str(path))["hear_mn"]

    def recipe(path: Path) -> Any:
        return load_recipe(path)

    labels = audioset_labels()
    texts: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("hear_mn.yaml", CONFIG, config),
        ("thresholds.yaml", THRESHOLDS, lambda path: read_thresholds(path, labels)),
        ("groups.yaml", GROUPS, lambda path: read_groups(path, labels)),
    ]
    for name in list_recipes():
        with_own_reader = False
        path = folder / f"{name}.yaml"
        path.write_text(recipe_text(name), encoding="utf-8")
        try:
            load_recipe(path)
        except HearError:  # a recipe of another kind
            with_own_reader = True
        if not with_own_reader:
            texts.append(("recipe.yaml", recipe_text(name), recipe))
    return texts, Recipe


def attempt_yaml(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Read damaged YAML; what is read must be what the plain loader of PyYAML reads."""
    texts, recipe_class = prepared
    name, text, read = rng.choice(texts[:3]) if rng.random() < 0.4 else rng.choice(texts)
    path = work / name
    choice = rng.random()
    if choice < 0.5:
        path.write_bytes(mutated_text(text, rng))
    elif choice < 0.95:
        value = mutated_value(yaml.safe_load(text), rng)
        path.write_text(json.dumps(value) if rng.random() < 0.5 else _dumped(value))
    else:
        code = f"touch {canary}"
        path.write_text(f'!!python/object/apply:os.system ["{code}"]')
    found = read(path)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError:  # the parser in Python refuses a few things that libyaml takes
        return
    if isinstance(found, recipe_class):
        _check_same(found.to_mapping(), loaded or {}, name)
    elif name == "thresholds.yaml":
        require(len(found) == len(loaded), f"{len(found)} thresholds of {len(loaded)}")
        for value in loaded.values():
            require(value in found.values() and type(value) is not bool, f"threshold {value!r}")
    elif name == "groups.yaml":
        require(sorted(found) == sorted(map(str, loaded)), f"groups {sorted(found)}")


def _dumped(value: Any) -> str:
    try:
        return yaml.safe_dump(value)
    except (yaml.YAMLError, ValueError, UnicodeEncodeError):
        return repr(value).encode("utf-8", "replace").decode()


def _check_same(found: Any, given: Any, where: str) -> None:
    """Check that a recipe has the values that its file gives."""
    for key, value in given.items():
        require(key in found, f"{where}: {key} was ignored")
        if isinstance(value, dict) and isinstance(found[key], dict):
            _check_same(found[key], value, f"{where}: {key}")
        elif isinstance(value, int | float) and isinstance(found[key], int | float):
            require(found[key] == value, f"{where}: {key} is {found[key]}, not {value}")
            require(isinstance(value, bool) == isinstance(found[key], bool), f"{where}: {key}")


def prepare_json(folder: Path) -> Any:
    """Return valid files of JSON and what reads them."""
    from hear_core.io.files import check_or_write_settings
    from hear_core.io.json_files import read_json
    from hear_core.io.pickles import read_pickle
    from hear_core.zoo.metadata import CheckpointMetadata
    from hear_mn import ZOO
    from hear_train.objectives.teachers import StoredTeacher

    np.save(folder / "logits.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    metadata = ZOO["mn01_as"].describe(labels=ZOO["mn01_as"].labels)

    def teacher(path: Path) -> Any:
        shutil.copy(folder / "logits.npy", path.with_name("logits.npy"))
        found = StoredTeacher(path.with_name("logits.npy"), path)
        return {name: found.probabilities(name).tolist() for name in found._of}

    def settings(path: Path) -> None:
        check_or_write_settings(path.parent, {"module": "a", "options": {}}, path.name)

    def described(path: Path) -> None:
        try:
            CheckpointMetadata.from_json(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            return
        except ValueError as error:  # reported by `read_metadata`
            require(str(error), "an error without a message")

    return [
        ("any.json", {"a": [1, 2.5, None, True], "b": {"c": "d"}}, read_json),
        ("index.json", {"x.wav": 0, "y.wav": 2, "z.wav": 1}, teacher),
        ("settings.json", {"module": "a", "options": {}}, settings),
        ("metadata.json", json.loads(metadata.to_json()), described),
        ("labels.pkl", [["a"], ["b", 1], {"c": 2.5}], lambda p: read_pickle(p, "labels")),
        ("index.pkl", {"x.wav": 0, "y.wav": 2}, teacher),
    ]


def attempt_json(files: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Read damaged JSON and pickles; what is read must be what the plain parser reads."""
    name, value, read = rng.choice(files)
    path, is_pickle = work / name, name.endswith(".pkl")
    dumped = pickle.dumps(value) if is_pickle else json.dumps(value).encode()
    choice = rng.random()
    if choice < 0.1 and is_pickle:
        path.write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    elif choice < 0.5:
        path.write_bytes(mutated_bytes(dumped, rng))
    else:
        other = mutated_value(value, rng)
        path.write_bytes(pickle.dumps(other) if is_pickle else json.dumps(other).encode())
    found = read(path)
    if name == "any.json":
        expected = json.loads(path.read_bytes(), object_pairs_hook=_with_unique_keys)
        require(repr(found) == repr(expected), f"{found} is not {expected}")
    elif name == "index.json":
        for clip, row in json.loads(path.read_bytes()).items() if isinstance(found, dict) else ():
            require(type(row) is int and 0 <= row < 3, f"row {row!r} of {clip!r}")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len({key for key, _ in pairs}) == len(pairs), "a key that is listed twice was read")
    return dict(pairs)


# --- Tables ---------------------------------------------------------------------------------------

TABLE = [["filename", "onset", "offset", "event_label", "fold"]]
TABLE += [[f"{i}.wav", "0.0", "0.25", "ab"[i % 2], str(i % 3)] for i in range(6)]


def prepare_tables(folder: Path) -> Path:
    """Write the recordings of a table."""
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", noise(RATE // 2, i), RATE)
    return folder


def attempt_table(audio: Path, work: Path, rng: random.Random, canary: Path) -> None:
    """Make a task, and find clips to train on, from a damaged table; a task must pass its check."""
    from hear_eval.tasks.checking import check_task
    from hear_eval.tasks.making import make_task
    from hear_eval.tasks.recordings import read_recording_table, with_splits
    from hear_train.data.datasets import DataConfig, open_dataset

    table = work / "audio" / rng.choice(["table.csv", "table.tsv", "TABLE.CSV"])
    table.parent.mkdir()
    for file in audio.iterdir():
        (table.parent / file.name).symlink_to(file)
    lines, mark = [list(row) for row in TABLE], rng.choice(",,,;\t")
    if rng.random() < 0.6:
        line = rng.choice(lines)
        cells = [*(name.replace("\ud800", "?") for name in NAMES), *map(repr, NUMBERS[:3]), *WORDS]
        line[rng.randrange(len(line))] = rng.choice([*cells, "a;b", "1e400", "0.5", "999"])
        table.write_text("\n".join(map(mark.join, lines)), encoding="utf-8")
    else:
        table.write_bytes(mutated_text("\n".join(map(mark.join, lines)), rng))
    failures: list[HearError] = []
    try:
        recordings = with_splits(read_recording_table(table), {"a": 1.0, "b": 1.0, "c": 1.0})
        kind = rng.choice(["multiclass", "multilabel", "events"])
        task = make_task(work / "tasks", "t", recordings, kind, sample_rates=[RATE])
        problems = [p for p in check_task(task).problems if not _is_advice(p.reason)]
        require(not problems, f"a task that was made has problems: {problems[:2]}")
    except HearError as error:
        failures.append(error)
    dataset = open_dataset([table], DataConfig(batch_size=2))
    for clip in [*dataset.train, *dataset.test]:
        require(clip.labels is not None, f"{clip.name} without labels")
    if failures:
        raise failures[0]


def _is_advice(reason: str) -> bool:
    """Return whether a problem is one of the data, which every small task has."""
    return "class" in reason or "no events" in reason


# --- HDF5 and arrays ------------------------------------------------------------------------------


def prepare_hdf5(folder: Path) -> Any:
    """Return the datasets of valid files."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(RATE), RATE, format="MP3")
    mp3 = np.frombuffer(buffer.getvalue(), np.uint8)
    clips = np.empty(3, object)
    clips[:] = [mp3] * 3
    packed = {
        "audio_name": np.array([b"a.mp3", b"b.mp3", b"c.mp3"]),
        "mp3": clips,
        "target": np.array([[128], [64], [192]], np.uint8),
    }
    teacher = {
        "filenames": np.array([b"a.mp3", b"b.mp3", b"c.mp3"]),
        "logits": np.arange(12, dtype=np.float16).reshape(3, 4),
    }
    return packed, teacher


DATASETS: list[Callable[[Any], Any]] = [
    lambda x: x[:0],
    lambda x: x[:1],
    lambda x: x[0],
    lambda x: x[None],
    lambda x: np.arange(len(x)),
    lambda x: np.array([b"\xff", b"a", b"b"]),
    lambda x: np.array([b"a", b"a", b"b"]),
    lambda x: np.array([b"../../x", b"/tmp/x", b""]),
    lambda x: np.full((3, 4), np.nan),
    lambda x: np.full((3, 4), np.inf, np.float16),
    lambda x: np.array([[1j] * 4] * 3),
    lambda x: np.array([[1.5] * 2] * 3, np.float32),
    lambda x: np.zeros((3, 2), bool),
    lambda x: np.float64(3),
    lambda x: b"text",
    lambda x: None,
]


def attempt_hdf5(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Read damaged HDF5 files, and arrays, of clips and of predictions."""
    from hear_train.data.hdf5 import PackedClip, packed_labels, read_index
    from hear_train.objectives.teachers import StoredTeacher

    packed, teacher = prepared
    is_packed = rng.random() < 0.5
    path = work / "a.h5"
    datasets = dict(packed if is_packed else teacher)
    on_bytes = rng.random() < 0.4
    if not on_bytes:
        name = rng.choice(list(datasets))
        datasets[name] = rng.choice(DATASETS)(datasets[name])
    _write_hdf5(path, datasets, rng)
    if on_bytes:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    if rng.random() < 0.2:
        path = work / "a.npy"
        np.save(path, teacher["logits"])
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
        (work / "a.txt").write_text("a\nb\nc")
        is_packed = False
    if not is_packed:
        found = StoredTeacher(path)
        for name in "abc":
            if name in found:
                require(np.isfinite(found.probabilities(name)).all(), "predictions not finite")
        return
    packed_labels(path)
    names, labels, known = read_index(path, 8)
    require(all(isinstance(name, str) for name in names), "names that are not strings")
    for bits in (labels, known):
        require(bits is None or bits.shape == (len(names), 1), "labels of another shape")
    for index, name in enumerate(names):
        found = PackedClip(path, index, name)(16000)
        require(len(found) and np.isfinite(found).all(), "samples that are not finite")


def _write_hdf5(path: Path, datasets: Mapping[str, Any], rng: random.Random) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            if values is None:
                if rng.random() < 0.5:
                    file.create_group(name)
                continue
            if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
                rows = file.create_dataset(name, values.shape, h5py.vlen_dtype(np.dtype("uint8")))
                for index, value in enumerate(values):
                    rows[index] = value
            elif not (isinstance(values, np.ndarray) and values.dtype == object):
                file[name] = values
        if rng.random() < 0.3:
            file.attrs["labels"] = rng.choice([3, "text", np.arange(3), ["a"] * 8, b"\xff"])


# --- Checkpoints ----------------------------------------------------------------------------------

STATES: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x.to_sparse(),
    lambda x: x.to("meta"),
    lambda x: x.to(torch.complex64),
    lambda x: x.int(),
    lambda x: x.bool(),
    lambda x: x * float("nan"),
    lambda x: x * float("inf"),
    lambda x: -x.abs() - 1,
    lambda x: x[:0] if x.ndim else x,
    lambda x: x[None],
    lambda x: x.double(),
    lambda x: x.half(),
    lambda x: x.bfloat16(),
    lambda x: x.numpy(),
    lambda x: x.tolist(),
    lambda x: None,
    lambda x: 3,
    lambda x: print,
]


def prepare_checkpoints(folder: Path) -> Any:
    """Write the weights of a small network as each kind of file."""
    from hear_core.zoo.metadata import save_checkpoint
    from hear_mn import ZOO

    network = ZOO.random_init("mn01_as")
    torch.save(network.state_dict(), folder / "a.pt")
    save_checkpoint(folder / "a.safetensors", network, ZOO["mn01_as"].describe())
    return network.state_dict(), (folder / "a.pt").read_bytes(), folder / "a.safetensors"


def attempt_checkpoint(prepared: Any, work: Path, rng: random.Random, canary: Path) -> None:
    """Load damaged weights; those of a network that loads must be finite."""
    from hear_mn import ZOO

    state, torch_file, safe_file = prepared
    choice = rng.random()
    if choice < 0.25:
        path = work / "a.pt"
        path.write_bytes(mutated_bytes(torch_file, rng))
    elif choice < 0.5:
        path = work / "a.safetensors"
        path.write_bytes(_with_damaged_header(safe_file.read_bytes(), rng))
    elif choice < 0.6:
        path = work / "a.pt"
        path.write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    else:
        path = work / "a.pt"
        changed = dict(state)
        key = rng.choice(list(state))
        match rng.randrange(5):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice(NAMES[:-2])] = changed.pop(key)
            case 2:
                changed[rng.choice([3, ("a",), "more"])] = torch.zeros(2)
            case _:
                changed[key] = rng.choice(STATES)(changed[key])
        wrapped = rng.choice([changed, {"model": changed}, {"state_dict": changed}, [changed]])
        torch.save(wrapped, path)
    name = rng.choice(["mn01_as", "mn01_as", "", "mn04_as"])
    loaded = ZOO.open(name, path)
    for key, tensor in loaded.network.state_dict().items():
        require(torch.isfinite(tensor.float()).all(), f"{key} is not finite")
        require(tensor.shape == state[key].shape, f"{key} has the shape {tensor.shape}")
    out = loaded.network.eval()(torch.zeros(1, 128, 30))["logits"]
    require(bool((~out.isnan()).all()), "logits that are NaN")


def _with_damaged_header(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if rng.random() < 0.4:
        return mutated_bytes(content, rng)
    key = "__metadata__" if rng.random() < 0.6 else rng.choice(list(header))
    if key == "__metadata__" and rng.random() < 0.8:
        inner = rng.choice(list(header[key]))
        text = header[key][inner]
        try:
            changed = json.dumps(mutated_value(json.loads(text), rng))
        except ValueError:
            changed = mutated_text(text, rng).decode("utf-8", "replace")
        header[key][inner] = changed if rng.random() < 0.8 else "[" * 100_000
    else:
        header[key] = mutated_value(header[key], rng)
    try:
        new = json.dumps(header).encode()
    except ValueError:
        return content
    return len(new).to_bytes(8, "little") + new + content[8 + size :]
