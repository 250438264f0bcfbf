"""Recipes: experiments as YAML files, and the training runs that are built from them.

A recipe holds everything that a result depends on, except the data's path, the run's folder and the
device. Published recipes are in the package ``training_configs``; users give the path of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from hear_core.errors import CheckpointError, ConfigError, shortened_repr, unknown
from hear_core.frontends.log_mel import Frontend
from hear_core.metrics.tuning import tune_decoding
from hear_core.networks.backbone import Backbone
from hear_core.zoo.metadata import read_metadata, save_checkpoint
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_mn.dynamic_convolution import DynamicConv, annealed_temperature
from hear_train.augment.frames import FrameAugmentation
from hear_train.augment.pairs import PairAugmentation
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.batch import BatchSource
from hear_train.data.clips import Clips
from hear_train.data.datasets import DataConfig, Dataset, open_dataset
from hear_train.data.events import FrameTargets
from hear_train.data.hdf5 import is_packed
from hear_train.data.mixtures import MixtureConfig, MixtureDrawer
from hear_train.data.samplers import SAMPLERS, Sampler
from hear_train.data.sources import (
    ClipDrawer,
    Drawer,
    DrawnBatches,
    PairedBatches,
    WaveformAugmentation,
)
from hear_train.detection import (
    NEAR_ONSETS,
    DetectionEvaluator,
    DetectionPredictions,
    check_metrics,
    predict_events,
    samples_per_frame,
)
from hear_train.detection_report import write_detection_report
from hear_train.evaluation import ClipEvaluator, EvaluationConfig, Predictions, predict
from hear_train.loop.states import last_state
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.detection import Detection, DetectionWeights
from hear_train.objectives.distillation import Distillation, DistillationWeights, init_output_bias
from hear_train.objectives.objective import Objective, block_parameters, takes_lengths
from hear_train.objectives.stored_frames import StoredFrames
from hear_train.objectives.supervised import LOSSES, PairSupervised, Supervised
from hear_train.objectives.teachers import NetworkTeacher, StoredTeacher
from hear_train.preprocessing import FramePreprocessing, Preprocessing
from hear_train.recipe_files import override_entry, read_recipe
from hear_train.zoo import ZOO, transfer

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)

T = TypeVar("T")

_IN_MEMORY = 5000  # clips of which all are read before training; 5 s each take 1.6 GB
_TOO_LARGE = 10**18  # for a 64-bit integer, with room for products
_SURVEY = 4  # batches that the teacher's mean is computed from


@dataclass(frozen=True)
class ModelConfig:
    """The network that is trained.

    Args:
        backbone: Name of a network in the zoo, or a size such as ``mn01`` for ``mn01_as``.
        pretrained: Start from the released weights; else from random ones. A file of weights, given
            when a run is built, goes before both.
        weights: Networks whose released weights a detector starts from in place of its own, such
            as ``fmn10_weak``; the first one that can be found or downloaded is used. Heads and
            sequence models that it does not have start at random.
        width_mult: Factor on the channels of the network; None is that of the backbone.
        head: Head of the network, see `hear_mn.heads.HEADS`.
        se_dims: Dimensions that squeeze-and-excitation works on, such as ``c`` or ``f``.
        n_mels: Mel bands of the front-end and of the network.
        hop: Hop of the front-end in samples.
        arguments: Further arguments of the network by name, such as ``strides``.
        frontend: Further arguments of the front-end by name, such as ``sample_rate``, ``window``
            and ``fmax``.
        dropout: Probability of every dropout of the network; None keeps those that it has.
        frozen: Train the last layer only. Everything before it keeps its weights and statistics,
            and is in evaluation mode.
        temperature: Temperature of dynamic convolutions in the first epoch; it falls to 1.
        norm_momentum: Momentum of the running statistics of batch norms. The networks have 0.01,
            which takes some hundred steps to follow the weights; a short training needs more.
        init_bias: Whether a randomly initialised network starts with biases that predict the mean
            of its teacher.
    """

    backbone: str = "mn10_as"
    pretrained: bool = True
    weights: tuple[str, ...] = ()
    width_mult: float | None = None
    head: str | None = None
    se_dims: str | None = None
    n_mels: int | None = None
    hop: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    frontend: Mapping[str, Any] = field(default_factory=dict)
    dropout: float | None = None
    frozen: bool = False
    temperature: float = 1.0
    norm_momentum: float | None = None
    init_bias: bool = True

    def __post_init__(self) -> None:
        positive = ("width_mult", "n_mels", "hop", "temperature")
        wrong = [f"{n} {v:g}" for n in positive if (v := getattr(self, n)) is not None and v <= 0]
        wrong += [f"dropout {p:g}"] if not 0 <= (p := self.dropout or 0.0) < 1 else []
        odd = {
            name: value
            for name, value in self.frontend.items()
            if not isinstance(value, int | float) or value < 0
        }
        wrong += [f"{name} {value!r} of the front-end" for name, value in odd.items()]
        if wrong:
            msg = (
                f"a network cannot have {', '.join(wrong)}: sizes and temperature must be above 0, "
                "dropout from 0 to below 1, and values of the front-end numbers of 0 or more"
            )
            raise ConfigError(msg)

    def record(self, zoo: Zoo) -> NetworkRecord:
        """Return the record of the network, with the backbone's arguments replaced by those here.

        Raises:
            ConfigError: The backbone or an argument is unknown.
        """
        record = zoo[self.name(zoo)]
        given = {"width": self.width_mult, "head": self.head, "se_dims": self.se_dims}
        changes = {
            "network": {**_given(**given, n_mels=self.n_mels), **self.arguments},
            "front-end": {**_given(n_mels=self.n_mels, hop=self.hop), **self.frontend},
        }
        makers: dict[str, Callable[..., Any]]
        makers = {"network": record.network, "front-end": record.frontend}
        for what, maker in makers.items():
            known = inspect.signature(maker).parameters
            if odd := next((name for name in changes[what] if name not in known), None):
                raise ConfigError(
                    f"{self.backbone}: " + unknown(f"argument of the {what}", odd, known)
                )
        changed = replace(
            record,
            arguments={**record.arguments, **changes["network"]},
            frontend=partial(record.frontend, **changes["front-end"]),
        )
        try:
            changed.skeleton()
            frontend = changed.frontend()
            frontend(torch.zeros(1, frontend.min_samples))
        except (TypeError, ValueError, ArithmeticError, RuntimeError, ConfigError) as error:
            msg = f"{self.backbone} cannot be built with {changes}: {error}"
            raise ConfigError(msg) from error
        return changed

    def name(self, zoo: Zoo) -> str:
        """Return the name of the backbone in the zoo."""
        return self.backbone if self.backbone in zoo else f"{self.backbone}_as"

    @property
    def is_altered(self) -> bool:
        """Whether the network differs from that of the backbone."""
        changes = (self.width_mult, self.head, self.se_dims, self.n_mels, self.hop)
        return any(change is not None for change in changes) or bool(
            self.arguments or self.frontend
        )


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher of a distillation.

    Args:
        networks: Names of networks in the zoo; the logits of several are averaged.
        predictions: File of stored predictions instead, see `StoredTeacher`.
        model: File of weights of a single network; the released ones if it is empty.
        pretrained: If False, the teacher's weights are random, for tests.
        temperature: Divides the teacher's logits before the sigmoid.
        match: Taps of a single teacher that the student's taps are matched with.
        shuffle: Give every clip the predictions for another one, as a control experiment.
    """

    networks: tuple[str, ...] = ()
    predictions: str = ""
    model: str = ""
    pretrained: bool = True
    temperature: float = 1.0
    match: tuple[str, ...] = ()
    shuffle: bool = False

    def __post_init__(self) -> None:
        if bool(self.networks) == bool(self.predictions):
            msg = "a teacher needs either networks or a file of predictions: give one of the two"
            raise ConfigError(msg)
        if self.predictions and self.match:
            msg = f"a file of predictions does not have the tap {self.match[0]} to match"
            raise ConfigError(msg)
        if self.temperature <= 0:
            msg = f"the temperature of the teacher must be above 0, not {self.temperature}"
            raise ConfigError(msg)


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss.

    Args:
        loss: Loss of the labels, a key of `hear_train.objectives.supervised.LOSSES`; a distillation
            uses ``bce``.
        distillation: Weights of the terms of the loss of clips, where there is a teacher.
        pairs: Augmentation of PANNs, which is part of the objective as it is applied inside the
            network; None does not augment.
        detection: Weights of the terms of the loss of frames. If it is given, even empty, a
            detector is trained with the events of the data; else a network is trained with the
            classes of clips.
    """

    loss: str = "bce"
    pairs: PairAugmentation | None = None
    distillation: DistillationWeights = field(default_factory=DistillationWeights)
    detection: DetectionWeights | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(unknown("loss", self.loss, LOSSES))


@dataclass(frozen=True)
class UnlabelledConfig:
    """Clips without labels of their frames, of which every batch gets some for a live teacher.

    Args:
        data: Data set, batches and sampling. Its path is the second one that is given.
        frames: Augmentation.
    """

    data: DataConfig = field(default_factory=DataConfig)
    frames: FrameAugmentation = field(default_factory=FrameAugmentation)


@dataclass(frozen=True)
class Recipe:
    """Everything that an experiment depends on.

    Args:
        description: Description of the recipe in one sentence.
        source: Paper or project that the settings come from.
        reported_metrics: Metrics that the source reports, by name and network.
        data: Data set, splits, clip length, batches and sampling.
        model: Network that is trained.
        teacher: Teacher of a distillation; None trains with labels only.
        mixtures: Random mixtures to train on in place of clips; None trains on clips.
        waveforms: Augmentation of the waveforms of clips.
        spectrograms: Augmentation of the log-mels, where clips are classified.
        frames: Augmentation of log-mels and targets, where events are detected.
        unlabelled: Clips without labels of their frames for an online distillation; None uses
            none.
        objective: Loss.
        trainer: Loop, optimiser and schedule.
        evaluation: Metrics; they are computed during training if the data set has a split for it.
    """

    description: str = ""
    source: str = ""
    reported_metrics: Mapping[str, float] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teacher: TeacherConfig | None = None
    mixtures: MixtureConfig | None = None
    waveforms: WaveformAugmentation = field(default_factory=WaveformAugmentation)
    spectrograms: SpectrogramAugmentation = field(default_factory=SpectrogramAugmentation)
    frames: FrameAugmentation = field(default_factory=FrameAugmentation)
    unlabelled: UnlabelledConfig | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        varied = self.mixtures and (self.mixtures.strength or self.mixtures.synthetic)
        if self.teacher and self.teacher.predictions and varied:
            msg = (
                "stored predictions are those of unchanged clips: set mixtures.strength and "
                "mixtures.synthetic to 0, or use a teacher network"
            )
            raise ConfigError(msg)
        if self.mixtures and not self.teacher:
            msg = "mixtures change what a clip is, so that its labels do not hold: give a teacher"
            raise ConfigError(msg)
        self._check_detection()
        if self.teacher and (self.objective.pairs or self.model.frozen):
            msg = "a distillation trains the whole network, without objective.pairs"
            raise ConfigError(msg)
        if self.data.variable and (self.mixtures or (self.teacher and self.teacher.networks)):
            msg = "data.variable is for clips with labels or stored predictions: set it to false"
            raise ConfigError(msg)
        if self.teacher and self.objective.loss != "bce":
            msg = f"a distillation uses the loss bce, not {self.objective.loss}"
            raise ConfigError(msg)

    def _check_detection(self) -> None:
        if self.objective.detection is None:
            self.evaluation.check()
            if self.unlabelled:
                msg = "the section unlabelled is for the training of detectors only"
                raise ConfigError(msg)
            return
        check_metrics(self.evaluation.metrics)
        if self.mixtures or (self.waveforms.roll and self.teacher and self.teacher.predictions):
            msg = (
                "mixtures and waveforms.roll move sounds in time, but not the events or predictions"
                " of their frames: shift detectors' sounds with frames.frame_shift"
            )
            raise ConfigError(msg)
        if self.unlabelled and not (self.teacher and self.teacher.networks):
            msg = "clips without labels of their frames need a live teacher: give teacher.networks"
            raise ConfigError(msg)

    def to_mapping(self) -> dict[str, Any]:
        """Return the recipe as JSON can hold it."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a training.

    Args:
        name: Name of a published recipe, or path of a YAML file.
        overrides: Values to replace, such as ``trainer.epochs=3`` or ``data.fold=2``; values are
            YAML.

    Raises:
        ConfigError: The recipe does not exist, is not YAML, or has an unknown key or a wrong value.
    """
    return from_mapping(Recipe, read_recipe(name, overrides), str(name))


def altered_record(backbone: str, overrides: Sequence[str], zoo: Zoo = ZOO) -> NetworkRecord:
    """Return the record of a network whose arguments are replaced, as a recipe does it.

    Args:
        backbone: Name of a network in the zoo.
        overrides: Values of `ModelConfig` to replace, such as ``model.width_mult=0.1``.
        zoo: Networks by name.

    Raises:
        ConfigError: A key or value is wrong, or the network cannot be built with it.
    """
    entries: dict[str, Any] = {"model": {"backbone": backbone}}
    for override in overrides:
        override_entry(entries, override)
    if odd := set(entries) - {"model"}:
        msg = f"{sorted(odd)[0]!r} does not describe a network: use keys such as model.width_mult"
        raise ConfigError(msg)
    return from_mapping(ModelConfig, entries["model"], "model").record(zoo)


def from_mapping(kind: type[T], entries: Mapping[str, Any], where: str) -> T:
    """Return a dataclass made from a mapping, checking all names and types.

    Args:
        kind: The dataclass.
        entries: Its values by name.
        where: Name of the mapping, for messages.

    Raises:
        ConfigError: A name is unknown or a value has the wrong type.
    """
    hints, values = get_type_hints(kind), {}
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name, value in entries.items():
        if name not in known:
            raise ConfigError(f"{where}: " + unknown("key", str(name), known))
        values[name] = _convert(hints[name], value, f"{where}: {name}")
    try:
        return kind(**values)
    except ConfigError as error:
        if str(error).startswith(where):
            raise
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


@dataclass(frozen=True)
class TrainingRun:
    """A training run that is ready to start or to resume.

    Args:
        trainer: The loop.
        network: Network that is trained.
        labels: Names of its classes.
        dropped: Reasons why clips were left out before training, by name.
        finish: Called with the checkpoint after training.
    """

    trainer: Trainer
    network: Backbone
    labels: tuple[str, ...]
    dropped: Mapping[str, str]
    finish: Callable[[Path], None] | None = None

    def run(self, report: Callable[[int, Mapping[str, float]], None] | None = None) -> Path:
        """Train, and return the checkpoint, see `Trainer.run`."""
        weights = self.trainer.run(report)
        if self.finish is not None and self.trainer.accelerator.is_main_process:
            self.finish(weights)
        return weights


def build(
    recipe: Recipe,
    data: Sequence[Path],
    folder: Path,
    accelerator: Accelerator,
    *,
    start: str | Path = "",
    workers: int = 0,
    logs: Sequence[str] = (),
    zoo: Zoo = ZOO,
) -> TrainingRun:
    """Return the training run of a recipe.

    Args:
        recipe: The recipe.
        data: Paths of the data.
        folder: Folder of the run; if a run was interrupted there, it will resume.
        accelerator: Device, precision and processes.
        start: File of weights to start from, in place of those that the recipe says.
        workers: Processes that read and prepare batches.
        logs: Names of further logs, see `hear_train.loop.logs.open_logs`.
        zoo: Networks by name.

    Raises:
        ConfigError: The recipe does not fit the data, or the folder has another run.
        CheckpointError: Weights cannot be found or do not fit.
    """
    record = recipe.model.record(zoo)
    frontend = record.frontend()
    _check_length(recipe, frontend.min_samples / frontend.sample_rate)
    labelled = data[:1] if recipe.unlabelled else data
    dataset = open_dataset(labelled, recipe.data)
    labels = dataset.labels
    teacher, stored = _teacher(recipe, zoo)
    if (chosen := teacher or stored) is not None and chosen.classes != len(labels):
        msg = f"the teacher has {chosen.classes} classes, but the data have {len(labels)}"
        raise ConfigError(msg)
    network = _network(recipe, zoo, record, start, labels)
    clips, dropped = _train_clips(recipe, dataset, data, frontend.sample_rate, stored)
    if recipe.data.variable and not takes_lengths(network):
        msg = "data.variable needs a network with the head mlp, which averages over the frames"
        raise ConfigError(msg)
    shortest = max(frontend.min_samples, frontend.samples_for(network.min_frames))
    drawer = _drawer(recipe, clips, len(labels), shortest)
    preprocess = _preprocessing(recipe, frontend, teacher)
    # On a CPU the workers preprocess as well, so that all cores are busy.
    in_workers = workers > 0 and accelerator.device.type == "cpu"
    source: BatchSource = DrawnBatches(
        drawer,
        recipe.data.batch_size,
        len(labels),
        None if stored is None else stored.probabilities,
        preprocess if in_workers and not recipe.unlabelled else None,
        accelerator.process_index,
        accelerator.num_processes,
        _frame_targets(recipe, network, frontend, len(labels)),
    )
    if recipe.unlabelled:
        other = _unlabelled_batches(recipe, data[1:], frontend, accelerator)
        source = PairedBatches(source, other, preprocess if in_workers else None)
    fresh = not start and not recipe.model.pretrained and recipe.model.init_bias
    taught = recipe.teacher or recipe.objective.detection
    if fresh and taught and last_state(folder) is None:
        _start_at_mean(network, source, None if in_workers else preprocess)
    record = record.with_labels(labels) if labels != record.labels else record
    settings = recipe.to_mapping() | {"data_paths": [str(path) for path in data]}
    settings["start"] = _checksum(start)
    settings["teacher_weights"] = _checksum(recipe.teacher.model if recipe.teacher else "")
    objective = _objective(recipe, network, teacher)
    evaluator = _evaluator(recipe, dataset, record, accelerator.device)
    trainer = Trainer(
        objective,
        source,
        _resolved(recipe, drawer, accelerator.num_processes),
        folder,
        accelerator,
        evaluator=evaluator,
        on_validated=_keeps_statistics(evaluator, folder),
        preprocess=None if in_workers else preprocess,
        save=partial(_save, record, recipe),
        on_epoch=_hooks(recipe, network, start),
        workers=workers,
        logs=logs,
        settings=settings,
    )
    finish = None
    if recipe.objective.detection and dataset.valid:
        finish = partial(_finish_detector, zoo, dataset, recipe, accelerator.device)
    return TrainingRun(trainer, network, labels, dropped, finish)


def evaluate_network(
    recipe: Recipe,
    data: Sequence[Path],
    backbone: str,
    model_file_path: str | Path = "",
    *,
    split: str = "test",
    device: str = "cpu",
    zoo: Zoo = ZOO,
) -> tuple[tuple[str, ...], Predictions | DetectionPredictions]:
    """Return the labels of a recipe's data set, and the predictions of a network for a split.

    Args:
        recipe: Recipe of the data set.
        data: Paths of the data.
        backbone: Name of the network; may be empty if the file of weights says what it holds.
        model_file_path: File of weights; the released ones if it is empty.
        split: Split of the data set.
        device: Device to run on.
        zoo: Networks by name.

    Raises:
        ConfigError: The network has other classes than the data set, or neither a network nor a
            file was given.
        CheckpointError: The weights cannot be found or loaded.
    """
    dataset = open_dataset(data, recipe.data)
    loaded = zoo.open(backbone, model_file_path)
    if loaded.record.labels != dataset.labels:
        msg = (
            f"{model_file_path or backbone} has {len(loaded.record.labels)} classes, which are not "
            f"the {len(dataset.labels)} classes of the data: train it on them first"
        )
        raise ConfigError(msg)
    frontend = loaded.record.frontend()
    network, config = loaded.network.to(device), recipe.evaluation
    clips = Clips(dataset.split(split), frontend.sample_rate)
    if recipe.objective.detection:
        found = predict_events(
            network,
            frontend,
            clips,
            dataset.labels,
            seconds=recipe.data.seconds,
            batch_size=config.batch_size,
            device=device,
            decoding=replace(
                loaded.record.decoding or config.decoding, thresholds=loaded.record.thresholds
            ),
        )
        return dataset.labels, found
    predictions = predict(
        network,
        frontend,
        clips,
        seconds=_evaluated_seconds(recipe),
        batch_size=config.batch_size,
        device=device,
    )
    return dataset.labels, predictions


def _save(
    record: NetworkRecord,
    recipe: Recipe,
    path: Path,
    network: Backbone,
    metrics: Mapping[str, float],
) -> None:
    finite = {name: value for name, value in metrics.items() if abs(value) < float("inf")}
    # Dynamic convolutions give the scores of the checkpoint at the temperature of its epoch.
    temperatures = [m.temperature for m in network.modules() if isinstance(m, DynamicConv)]
    if temperatures:
        arguments = {**record.arguments, "temperature": temperatures[0]}
        record = replace(record, arguments=arguments)
    metadata = record.describe(recipe=recipe.to_mapping(), metrics=finite)
    save_checkpoint(path, network, metadata)


def _given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _finish_detector(
    zoo: Zoo, dataset: Dataset, recipe: Recipe, device: torch.device, weights: Path
) -> None:
    """Store the best event decoding in a checkpoint, chosen on validation data, and report."""
    loaded = zoo.open("", weights)
    network, rate = loaded.network.to(device), loaded.record.frontend().sample_rate
    evaluator = _detection_evaluator(
        recipe, dataset, Clips(dataset.valid, rate), loaded.record, device
    )
    found = evaluator.predictions(network)
    if not len(found.reference().label):
        _log.warning("no event of the validation data could be read, and thresholds are not tuned")
        return
    recordings = [*found.recordings(smooth=False)]
    decoding = tune_decoding(recordings, matching=NEAR_ONSETS).decoding
    metadata = read_metadata(weights)
    assert metadata is not None  # noqa: S101 - it was written by _save
    metadata = replace(metadata, thresholds=decoding.thresholds or {}, decoding=decoding.entries())
    save_checkpoint(weights, network, metadata)
    if dataset.test:
        found = replace(evaluator, clips=Clips(dataset.test, rate)).predictions(network)
        write_detection_report(weights.parent / "report", replace(found, decoding=decoding))


def _check_length(recipe: Recipe, least: float) -> None:
    seconds = recipe.mixtures.seconds if recipe.mixtures else recipe.data.seconds
    if seconds < least:
        msg = f"clips of {seconds:g} s are too short; the front-end needs at least {least:.3f} s"
        raise ConfigError(msg)


def _teacher(
    recipe: Recipe, zoo: Zoo
) -> tuple[NetworkTeacher | None, StoredTeacher | StoredFrames | None]:
    config = recipe.teacher
    if config is None:
        return None, None
    if config.predictions and recipe.objective.detection:
        return None, StoredFrames(Path(config.predictions), config.temperature)
    if config.predictions:
        return None, StoredTeacher(Path(config.predictions), temperature=config.temperature)
    teacher = NetworkTeacher(
        zoo,
        config.networks,
        config.model,
        config.match,
        temperature=config.temperature,
        pretrained=config.pretrained,
    )
    return teacher, None


def _network(
    recipe: Recipe,
    zoo: Zoo,
    record: NetworkRecord,
    start: str | Path,
    labels: tuple[str, ...],
) -> Backbone:
    """Return the network with the weights that it starts from."""
    config = recipe.model
    if record.skeleton().framewise:
        network = _detector(recipe, zoo, record, start, labels)
    elif start or (config.pretrained and not config.is_altered):
        network = zoo.load(config.name(zoo), start, num_classes=len(labels))
    elif config.pretrained:
        msg = (
            "no weights were released for a network with changed arguments: set "
            "model.pretrained=false, or give weights to start from"
        )
        raise ConfigError(msg)
    else:
        network = _fresh(recipe, record, len(labels))
    for module in network.modules():
        if isinstance(module, nn.Dropout) and config.dropout is not None:
            module.p = config.dropout
        if isinstance(module, nn.BatchNorm2d) and config.norm_momentum is not None:
            module.momentum = config.norm_momentum
    return network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def _fresh(recipe: Recipe, record: NetworkRecord, classes: int) -> Backbone:
    """Return a network with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.trainer.seed)
        return record.build(classes)


def _detector(
    recipe: Recipe,
    zoo: Zoo,
    record: NetworkRecord,
    start: str | Path,
    labels: tuple[str, ...],
) -> Backbone:
    """Return a detector with as many weights as what it starts from has for it."""
    config, network = recipe.model, _fresh(recipe, record, len(labels))
    loaded = None
    if start:
        name = "" if zoo.has_network_of(start) else config.name(zoo)
        loaded = zoo.open(name, start)
    elif config.pretrained:
        names = config.weights or (config.name(zoo),)
        for name in names:
            try:
                loaded = zoo.open(name)
                break
            except CheckpointError as error:
                if name == names[-1]:
                    raise
                _log.warning("%s cannot be used, and %s is tried: %s", name, names[-1], error)
    if loaded is None:
        return network
    weights = loaded.network.state_dict()
    # A head for other classes is of no use, even if it has as many of them.
    if loaded.record.labels != labels:
        heads = ("strong_head.", "weak_head.")
        weights = {key: value for key, value in weights.items() if not key.startswith(heads)}
    if not [name for name in weights if name.startswith("model.")]:
        msg = f"{start or config.weights} is not a detector, and {config.backbone} cannot use it"
        raise ConfigError(msg)
    if left := transfer(network, weights):
        layers = dict.fromkeys(name.split(".")[0] for name in left)
        if "model" in layers:
            msg = (
                f"{start or ' or '.join(config.weights)} has another backbone than "
                f"{config.backbone}: {left[0]} does not fit"
            )
            raise ConfigError(msg)
        _log.info("%s of %s start at random", ", ".join(layers), config.backbone)
    return network


def _preprocessing(
    recipe: Recipe, frontend: Frontend, teacher: NetworkTeacher | None
) -> Preprocessing | FramePreprocessing:
    seed, shuffled = recipe.trainer.seed, recipe.teacher is not None and recipe.teacher.shuffle
    if recipe.objective.detection is None:
        return Preprocessing(frontend, recipe.spectrograms, seed, teacher, shuffle_teacher=shuffled)
    return FramePreprocessing(
        frontend,
        recipe.frames,
        seed,
        teacher,
        unlabelled=recipe.unlabelled.frames if recipe.unlabelled else None,
        shuffle_teacher=shuffled,
    )


def _frame_targets(
    recipe: Recipe, network: Backbone, frontend: Frontend, classes: int
) -> FrameTargets | None:
    if recipe.objective.detection is None:
        return None
    per_frame, rate = samples_per_frame(network, frontend), frontend.sample_rate
    frames = -(-round(recipe.data.seconds * rate) // per_frame)
    return FrameTargets(classes, frames, per_frame, rate, recipe.data.encoding)


def _unlabelled_batches(
    recipe: Recipe, data: Sequence[Path], frontend: Frontend, accelerator: Accelerator
) -> DrawnBatches:
    """Return batches of the clips without labels of their frames."""
    assert recipe.unlabelled is not None  # noqa: S101
    config = recipe.unlabelled.data
    if not data:
        msg = (
            "the recipe needs two paths of data: the clips with labels of their frames first, and "
            "the clips without second"
        )
        raise ConfigError(msg)
    dataset = open_dataset(data, config)
    clips = Clips(
        dataset.split("train"), frontend.sample_rate, Path(config.cache) if config.cache else None
    )
    seed = recipe.trainer.seed + 1
    sampler = _sampler(config, clips, len(dataset.labels), seed)
    drawer = ClipDrawer(clips, sampler, config.seconds, WaveformAugmentation(), seed)
    return DrawnBatches(
        drawer,
        config.batch_size,
        len(dataset.labels),
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )


def _sampler(config: DataConfig, clips: Clips, classes: int, seed: int) -> Sampler:
    if config.sampler not in SAMPLERS:
        raise ConfigError(unknown("sampler", config.sampler, SAMPLERS))
    return SAMPLERS[config.sampler](clips, classes, seed, config)


def _train_clips(
    recipe: Recipe,
    dataset: Dataset,
    data: Sequence[Path],
    sample_rate: int,
    stored: StoredTeacher | StoredFrames | None,
) -> tuple[Clips, dict[str, str]]:
    """Return the clips to train on, and the reasons why others are left out."""
    found, dropped = dataset.split("train"), dict[str, str]()
    if stored is not None:
        known = stored.of([clip.name for clip in found])
        without = {clip.name for clip in found} - known
        dropped = dict.fromkeys(sorted(without), "the teacher has no row for it")
        found = [clip for clip in found if clip.name in known]
    config = recipe.data
    clips = Clips(found, sample_rate, Path(config.cache) if config.cache else None)
    in_memory = config.in_memory
    if in_memory is None:
        in_memory = not any(map(is_packed, data)) and len(clips) <= _IN_MEMORY and not config.cache
    if in_memory:
        dropped |= clips.keep()
    for name, why in dropped.items():
        _log.warning("%s is left out: %s", name, why)
    return clips, dropped


def _evaluated_seconds(recipe: Recipe) -> float:
    """Return the length that clips are evaluated at; 0 is their own."""
    return 0.0 if recipe.data.variable else recipe.data.seconds


def _drawer(recipe: Recipe, clips: Clips, classes: int, shortest: int) -> Drawer:
    config, seed = recipe.data, recipe.trainer.seed
    if recipe.mixtures is not None:
        return MixtureDrawer(clips, recipe.mixtures, seed)
    sampler = _sampler(config, clips, classes, seed)
    return ClipDrawer(
        clips,
        sampler,
        config.seconds,
        recipe.waveforms,
        seed,
        config.around_events,
        shortest if config.variable else None,
    )


def _resolved(recipe: Recipe, drawer: Drawer, processes: int) -> TrainerConfig:
    """Return the settings of the loop with a number of steps: one pass over an epoch's clips."""
    config = recipe.trainer
    if config.steps_per_epoch:
        return config
    length = len(drawer.sampler) if isinstance(drawer, ClipDrawer) else len(drawer.clips)
    per_step = recipe.data.batch_size * config.accumulate * processes
    return replace(config, steps_per_epoch=max(1, -(-length // per_step)))


def _objective(recipe: Recipe, network: Backbone, teacher: NetworkTeacher | None) -> Objective:
    config = recipe.objective
    if config.detection is not None:
        return Detection(network, config.detection)
    if recipe.teacher is None:
        if config.pairs is None:
            objective = Supervised(network, config.loss)
        else:
            seed = recipe.trainer.seed
            objective = PairSupervised(network, config.loss, config.pairs, seed)
        if recipe.model.frozen:
            objective.freeze_backbone()
        return objective
    taps = {} if teacher is None else teacher.tap_channels
    with torch.random.fork_rng(devices=[]):  # the maps of the taps start at random
        torch.manual_seed(recipe.trainer.seed)
        return Distillation(network, config.distillation, taps)


def _evaluator(
    recipe: Recipe, dataset: Dataset, record: NetworkRecord, device: torch.device
) -> ClipEvaluator | DetectionEvaluator | None:
    if not (dataset.valid or dataset.test):
        return None
    frontend, config = record.frontend(), recipe.evaluation
    names = (config.split, *config.also)
    splits = {name: Clips(dataset.split(name), frontend.sample_rate) for name in names}
    if recipe.objective.detection is not None:
        return _detection_evaluator(recipe, dataset, splits[config.split], record, device)
    return ClipEvaluator(
        splits, frontend, config, dataset.labels, _evaluated_seconds(recipe), device
    )


def _keeps_statistics(
    evaluator: ClipEvaluator | DetectionEvaluator | None, folder: Path
) -> Callable[[int], None] | None:
    """Return what is called after a validation, with the number of the step."""
    if isinstance(evaluator, ClipEvaluator):
        return partial(evaluator.write_statistics, folder)
    return None


def _detection_evaluator(
    recipe: Recipe, dataset: Dataset, clips: Clips, record: NetworkRecord, device: torch.device
) -> DetectionEvaluator:
    frontend, seconds = record.frontend(), recipe.data.seconds
    config = recipe.evaluation
    return DetectionEvaluator(clips, dataset.labels, frontend, config, seconds, device)


def _hooks(recipe: Recipe, network: Backbone, start: str | Path) -> list[Callable[[int], None]]:
    """Return what is done at the beginning of every epoch."""
    hooks: list[Callable[[int], None]] = []
    set_temperature = getattr(network, "set_temperature", None)
    if set_temperature is not None:
        hot = recipe.model.temperature
        hooks.append(lambda epoch: set_temperature(annealed_temperature(epoch, start=hot)))
    epochs = recipe.trainer.optimiser.frozen_epochs
    if epochs and (start or recipe.model.pretrained):
        hooks.append(partial(_freeze, [*chain(*block_parameters(network))], epochs))
    return hooks


def _freeze(parameters: Sequence[nn.Parameter], epochs: int, epoch: int) -> None:
    """Freeze parameters in the first epochs."""
    for parameter in parameters:
        parameter.requires_grad_(epoch >= epochs)


def _start_at_mean(network: Backbone, source: BatchSource, preprocess: nn.Module | None) -> None:
    """Let a new network start at the mean of its targets, those of its teacher if it has one."""
    soft = []
    for number in range(10**9, 10**9 + _SURVEY):  # the numbers of no step
        batch = source[number] if preprocess is None else preprocess(source[number])
        targets = batch.teacher or batch.targets
        if targets.strong is not None:
            soft.append(targets.strong.transpose(1, 2).flatten(0, 1))
        elif targets.weak is not None:
            soft.append(targets.weak)
    mean = torch.cat(soft).clamp(1e-5, 1 - 1e-5).nanmean(0)
    init_output_bias(network, mean.logit())


def _checksum(weights: str | Path) -> str:
    """Return the checksum of a file of weights; empty for no file."""
    if not str(weights):
        return ""
    try:
        return hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    except OSError as error:
        msg = f"the weights {weights} cannot be read: {error}"
        raise ConfigError(msg) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return a value of YAML as a type; numbers and lists are converted where that is exact."""
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in get_args(hint):
            return None
        return _convert(next(a for a in get_args(hint) if a is not type(None)), value, where)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            msg = f"{where} must be a section of names and values, not {shortened_repr(value)}"
            raise ConfigError(msg)
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        items = [value] if isinstance(value, str | int | float) else value
        if not isinstance(items, list | tuple):
            msg = f"{where} must be a list, not {shortened_repr(value)}"
            raise ConfigError(msg)
        kinds = get_args(hint)
        if kinds[-1] is not ... and len(kinds) != len(items):
            msg = f"{where} must have {len(kinds)} values, not {len(items)}"
            raise ConfigError(msg)
        return tuple(_convert(kinds[0], item, where) for item in items)
    if origin is not None:  # a mapping
        if not isinstance(value, dict):
            msg = f"{where} must map names to values, not {shortened_repr(value)}"
            raise ConfigError(msg)
        return {str(k): _convert(get_args(hint)[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is Any:
        return value
    if hint is float and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-4 as a text
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif hint is int and isinstance(value, int):
        if not isinstance(value, bool) and abs(value) < _TOO_LARGE:
            return value
    elif isinstance(value, hint) and not (hint is str and "\0" in value):
        return value
    kind = {float: "a finite number", int: "a whole number below 1e18"}.get(hint)
    msg = f"{where} must be {kind or f'of type {hint.__name__}'}, not {shortened_repr(value)}"
    raise ConfigError(msg)
