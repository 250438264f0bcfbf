"""Training runs: the networks, data, objective and trainer that a recipe describes, connected."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from hear_core.errors import CheckpointError, ConfigError, unknown
from hear_core.frontends.log_mel import Frontend
from hear_core.metrics.tuning import tune_decoding
from hear_core.networks.backbone import Backbone
from hear_core.zoo.metadata import read_metadata, save_checkpoint
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_mn.dynamic_convolution import DynamicConv, annealed_temperature
from hear_train.batch import BatchSource
from hear_train.data.clips import Clips
from hear_train.data.datasets import DataConfig, Dataset, open_dataset
from hear_train.data.events import FrameTargets
from hear_train.data.hdf5 import is_packed
from hear_train.data.mixtures import MixtureDrawer
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
    predict_events,
    samples_per_frame,
)
from hear_train.detection_report import write_detection_report
from hear_train.evaluation import ClipEvaluator, Predictions, predict
from hear_train.loop.states import last_state
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.detection import Detection
from hear_train.objectives.distillation import Distillation, init_output_bias
from hear_train.objectives.objective import Objective, block_parameters, takes_lengths
from hear_train.objectives.stored_frames import StoredFrames
from hear_train.objectives.supervised import PairSupervised, Supervised
from hear_train.objectives.teachers import NetworkTeacher, StoredTeacher
from hear_train.preprocessing import FramePreprocessing, Preprocessing
from hear_train.recipes import Recipe
from hear_train.zoo import ZOO, transfer

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)

_IN_MEMORY = 5000  # clips of which all are read before training; 5 s each take 1.6 GB
_SURVEY = 4  # batches that the teacher's mean is computed from


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
