"""Recipes: experiments as YAML files, with the settings of everything that a run is built of.

A recipe holds everything that a result depends on, except the data's path, the run's folder and the
device. Published recipes are in the package ``training_configs``; users give the path of their own.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hear_core.errors import ConfigError, unknown
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_train.augment.frames import FrameAugmentation
from hear_train.augment.pairs import PairAugmentation
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.data.datasets import DataConfig
from hear_train.data.mixtures import MixtureConfig
from hear_train.data.sources import WaveformAugmentation
from hear_train.detection import check_metrics
from hear_train.evaluation import EvaluationConfig
from hear_train.loop.trainer import TrainerConfig
from hear_train.objectives.detection import DetectionWeights
from hear_train.objectives.distillation import DistillationWeights
from hear_train.objectives.supervised import LOSSES
from hear_train.recipe_files import override_entry, read_recipe
from hear_train.settings import from_mapping
from hear_train.zoo import ZOO


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


def _given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
