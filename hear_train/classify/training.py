"""Training of a classifier for sounds of one's own, from a folder of clips to a checkpoint."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hear_core._version import __version__
from hear_core.errors import ConfigError, require_number
from hear_core.io.files import atomic_write, exclusive_lock
from hear_core.io.json_files import read_json
from hear_core.networks.tap_classifier import TapClassifier
from hear_core.zoo.metadata import save_checkpoint
from hear_train.classify.embedding_networks import (
    LONGEST_WINDOW,
    EmbeddingNetwork,
    TapEmbedder,
    open_embedding_network,
)
from hear_train.classify.embeddings import Embeddings, embed_clips
from hear_train.classify.heads import (
    Examples,
    HeadConfig,
    best_candidate,
    example_weights,
    fit_head,
    head_logits,
    validated_logits,
)
from hear_train.classify.report import ReportContent, render_report
from hear_train.classify.scoring import (
    Scored,
    Units,
    best_thresholds,
    mean_by_unit,
    score_units,
    unit_of_windows,
)
from hear_train.classify.sounds import TESTED, Sounds, few_recordings, find_sounds
from hear_train.classify.tuning import FineTuning, fine_tune, frozen_parameters
from hear_train.recipe_files import read_recipe
from hear_train.settings import from_mapping

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)

CHECKPOINT, REPORT, PREDICTIONS = "best.safetensors", "report.html", "predictions.csv"
_SETTINGS, _RECIPE = "settings.json", "classify"
_MANY = 5000  # windows of clips from which on heads are compared in one fold only
_LOCK_HINT = "wait until it is finished, or choose another folder"

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of its steps that are done, and of all."""


@dataclass(frozen=True)
class ClassifyConfig:
    """Settings of a classifier.

    Args:
        description: Description of the recipe in one sentence.
        source: Paper or project that the settings come from.
        module: Plug-in module, backbone or checkpoint whose embeddings are classified.
        window: Length in seconds of the windows that longer clips are divided into.
        keep_out: Patterns of names of clips that are left out, such as ``5-*``.
        group: Regular expression: what it finds in a clip's name is the recording that it belongs
            to, and clips of one recording stay in one fold. By default a table's column ``group``,
            ``recording`` or ``source`` says so, or the name without a part number.
        folds: Number of folds that are validated in turn, where the data have no folds or splits.
        test_fold: Numbered fold of the data that is tested on only; 0 validates in all of them.
        hidden: Sizes of the hidden layer that are tried; 0 is a linear head.
        weight_decay: Values of the weight decay that are tried.
        false_alarms: Largest number of false alarms per hour of background that a threshold may
            allow, for each class; None sets no limit.
        fine_tuning: Fine-tuning of the network.
        seed: Seed of folds and initial weights.
    """

    description: str = ""
    source: str = ""
    module: str = "mn10_all_b_mel_avgs"
    window: float = 10.0
    keep_out: tuple[str, ...] = ()
    group: str = ""
    folds: int = 5
    test_fold: int = 0
    hidden: tuple[int, ...] = (0, 128)
    weight_decay: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    false_alarms: float | None = None
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("window", self.window, 0.05, LONGEST_WINDOW, unit="seconds")
        require_number("folds", self.folds, 2, 100, integer=True)
        require_number("test_fold", self.test_fold, 0, 10_000, integer=True)
        require_number("seed", self.seed, 0, 2**31 - 1, integer=True)
        if self.false_alarms is not None:
            require_number("false_alarms", self.false_alarms, 0, 1e9, unit="per hour")
        for size in self.hidden:
            require_number("hidden", size, 0, 100_000, integer=True)
        for value in self.weight_decay:
            require_number("weight_decay", value, 0, 1e6)
        if not self.hidden or not self.weight_decay:
            msg = "hidden and weight_decay need at least one value to try"
            raise ConfigError(msg)

    @property
    def heads(self) -> list[HeadConfig]:
        """Settings of the heads that are tried."""
        return [HeadConfig(size, decay) for size in self.hidden for decay in self.weight_decay]


class TrainedClassifier(NamedTuple):
    """A trained classifier, its evaluation and its files.

    Attributes:
        checkpoint: File of the classifier.
        report: Page with its scores.
        predictions: Table with its predictions for every clip.
        labels: Names of the classes.
        head: Settings of its head.
        scored: Scores on clips that it was not trained on.
        failed: Reasons why clips were skipped, by name.
        notes: Remarks on the data.
    """

    checkpoint: Path
    report: Path
    predictions: Path
    labels: tuple[str, ...]
    head: HeadConfig
    scored: Scored
    failed: Mapping[str, str]
    notes: tuple[str, ...]


class Evaluated(NamedTuple):
    """Predictions for clips that a classifier was not trained on.

    Attributes:
        units: Labelled clips, and windows of background.
        logits: Logits (units, classes).
        thresholds: Thresholds that were chosen without the unit, (units, classes).
        tested: Whether the units are those of a test set, which had no part in any choice.
    """

    units: Units
    logits: np.ndarray
    thresholds: np.ndarray
    tested: bool

    @property
    def scores(self) -> np.ndarray:
        """Probabilities of the classes, (units, classes)."""
        return 1 / (1 + np.exp(-self.logits.astype(float)))

    @property
    def detected(self) -> np.ndarray:
        """Whether each class reaches its threshold, (units, classes), bool."""
        found: np.ndarray = self.scores >= self.thresholds
        return found


def load_config(name: str | Path = _RECIPE, overrides: Sequence[str] = ()) -> ClassifyConfig:
    """Return the settings of a classifier.

    Args:
        name: Name of the published recipe, or path of a YAML file.
        overrides: Values to replace, such as ``fine_tuning.blocks=3``; values are YAML.

    Raises:
        ConfigError: The recipe does not exist, is not YAML, or has an unknown key or a wrong value.
    """
    return from_mapping(ClassifyConfig, read_recipe(name, overrides), str(name))


def train_classifier(
    config: ClassifyConfig,
    data: Path,
    folder: Path,
    background: Sequence[Path] = (),
    *,
    model: str | Path = "",
    random_weights: bool = False,
    device: str = "cpu",
    accelerator: Accelerator | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> TrainedClassifier:
    """Train a classifier, and write its checkpoint, a report and its predictions.

    Clips are embedded once; the embeddings are kept in the folder, so that an interrupted run
    resumes. Heads of several sizes and weight decays are trained on all folds but one and validated
    on this one, in turn. The settings and thresholds for a fold are chosen in the others, so that
    the report is about clips that had no part in any choice for them. The final head has the
    settings that are best in all folds, and is trained on all clips but those that are tested on.

    Args:
        config: Settings.
        data: Clips, see `hear_train.classify.sounds.find_sounds`.
        folder: Folder of the run.
        background: Folders and files of background.
        model: File of weights of the network; the released ones by default.
        random_weights: Use a network with random weights, as a control.
        device: Device to embed on.
        accelerator: Device and precision of the fine-tuning, which needs one.
        progress: Called as the work proceeds.

    Raises:
        ConfigError: The data do not have the layout, or the folder has another run.
        CheckpointError: Weights cannot be found or do not fit.
    """
    if config.fine_tuning.blocks and accelerator is None:
        msg = "the fine-tuning of blocks needs an accelerator"
        raise ConfigError(msg)
    sounds = find_sounds(
        data,
        background,
        keep_out=config.keep_out,
        group=config.group,
        folds=config.folds,
        test_fold=config.test_fold,
        seed=config.seed,
    )
    base = open_embedding_network(config.module, model, random_weights=random_weights)
    if config.fine_tuning.blocks:
        frozen_parameters(base.classifier(("",)), config.fine_tuning.blocks)
    settings = {
        "recipe": _RECIPE,
        **_as_json(config),
        "data_paths": [str(data), *map(str, background)],
    }
    with exclusive_lock(folder / "run", _LOCK_HINT):
        _check_run(folder, settings)
        embeddings = embed_clips(
            TapEmbedder(
                base.classifier(("",)),
                base.classifier_record(("",)),
                weights=base.weights,
                device=device,
            ),
            sounds.files,
            folder / "embeddings",
            config.window,
            base.settings,
            lambda done, total: progress("clips embedded", done, total),
        )
        sounds = _without_failed(sounds, embeddings.failed)
        return _trained(config, sounds, base, embeddings, folder, accelerator, progress)


def _trained(
    config: ClassifyConfig,
    sounds: Sounds,
    base: EmbeddingNetwork,
    embeddings: Embeddings,
    folder: Path,
    accelerator: Accelerator | None,
    progress: Progress,
) -> TrainedClassifier:
    """Train and evaluate heads on embeddings, and write everything."""
    clips = embeddings.clips
    targets, folds = sounds.targets[clips], sounds.folds[clips]
    rows = embeddings.rows
    examples = Examples(rows, targets, example_weights(targets, clips), folds)
    unit = unit_of_windows(clips, sounds.background[clips])
    units = _units(embeddings, examples, unit)
    trainable = folds != TESTED
    validated = np.flatnonzero(units.folds >= 0)
    found = _search(examples, config, progress)
    heads, candidates = list(found), [mean_by_unit(logits, unit) for logits in found.values()]
    best = best_candidate([each[validated] for each in candidates], units.targets[validated])
    chosen, logits = heads[best], candidates[best]
    tested = np.flatnonzero(units.folds == TESTED)
    if config.fine_tuning.blocks:
        # One fold is validated, and has no part in the training of the network.
        trainable &= folds != 0
        validated = np.flatnonzero(units.folds == 0)
    head = fit_head(examples.select(trainable), chosen, config.seed)
    network, final = base.classifier(sounds.labels, chosen.hidden, head), head_logits(head, rows)
    if accelerator is not None and config.fine_tuning.blocks:
        record = base.classifier_record(sounds.labels, chosen.hidden)
        network, final = fine_tune(
            network,
            record,
            sounds,
            config.fine_tuning,
            _window(config, embeddings),
            folder / "fine_tuning",
            accelerator,
            seed=config.seed,
            report=lambda done, total: progress("steps of fine-tuning", done, total),
        )
        logits = mean_by_unit(final, unit)
        candidates = [logits]
    thresholds = best_thresholds(logits[validated], units.select(validated), config.false_alarms)
    if len(tested):
        evaluated = Evaluated(
            units.select(tested),
            mean_by_unit(final, unit)[tested],
            np.broadcast_to(thresholds, (len(tested), len(thresholds))),
            tested=True,
        )
    else:
        evaluated = _crossfit(candidates, units.select(validated), validated, config)
    return _write(config, sounds, base, embeddings, folder, chosen, network, thresholds, evaluated)


def _window(config: ClassifyConfig, embeddings: Embeddings) -> float:
    """Return the length of the longest window, rounded up to a tenth of a second."""
    longest = float((embeddings.end - embeddings.start).max())
    return min(config.window, math.ceil(10 * longest) / 10)


def _search(
    examples: Examples, config: ClassifyConfig, progress: Progress
) -> dict[HeadConfig, np.ndarray]:
    """Return the validated logits of every head; of large data, of the best in the first fold."""
    folds = np.unique(examples.folds[examples.folds >= 0]).tolist()
    large = len(examples.rows) > _MANY and len(config.heads) > 1 and len(folds) > 1
    done, total = 0, len(config.heads) * (1 if large else len(folds)) + large * len(folds)

    def validated(head: HeadConfig, folds: Sequence[int]) -> np.ndarray:
        nonlocal done
        logits = np.full(examples.targets.shape, np.nan, np.float32)
        for fold in folds:
            held = examples.folds == fold
            logits[held] = validated_logits(examples, head, fold, config.seed)
            done += 1
            progress("heads trained", done, total)
        return logits

    if not large:
        return {head: validated(head, folds) for head in config.heads}
    rows = examples.folds == folds[0]
    first = [validated(head, folds[:1])[rows] for head in config.heads]
    best = config.heads[best_candidate(first, examples.targets[rows])]
    return {best: validated(best, folds)}


def _units(embeddings: Embeddings, examples: Examples, unit: np.ndarray) -> Units:
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    last = np.append(first[1:], len(unit)) - 1
    return Units(
        embeddings.clips[first],
        embeddings.start[first],
        embeddings.end[last],
        examples.targets[first],
        examples.folds[first],
    )


def _crossfit(
    candidates: Sequence[np.ndarray],
    units: Units,
    validated: np.ndarray,
    config: ClassifyConfig,
) -> Evaluated:
    """Return the predictions in every fold, with the settings that are best in the others."""
    found = [each[validated] for each in candidates]
    logits, thresholds = np.empty_like(found[0]), np.empty(found[0].shape)
    folds = np.unique(units.folds).tolist()
    for fold in folds:
        held = units.folds == fold
        others = np.flatnonzero(~held if len(folds) > 1 else held)
        best = best_candidate([each[others] for each in found], units.targets[others])
        logits[held] = found[best][held]
        chosen = best_thresholds(found[best][others], units.select(others), config.false_alarms)
        thresholds[held] = chosen
    return Evaluated(units, logits, thresholds, tested=False)


def _write(
    config: ClassifyConfig,
    sounds: Sounds,
    base: EmbeddingNetwork,
    embeddings: Embeddings,
    folder: Path,
    head_config: HeadConfig,
    network: TapClassifier,
    thresholds: np.ndarray,
    evaluated: Evaluated,
) -> TrainedClassifier:
    """Write the checkpoint, the predictions and the report."""
    labels = sounds.labels
    scored = score_units(labels, evaluated.units, evaluated.logits, thresholds, evaluated.detected)
    record = base.classifier_record(labels, head_config.hidden)
    metrics = {"top1_acc": scored.accuracy, "mAP": scored.mAP, "false_alarms": scored.false_alarms}
    metadata = record.describe(
        thresholds=dict(zip(labels, thresholds.tolist(), strict=True)),
        window=_window(config, embeddings),
        recipe={"recipe": _RECIPE, **_as_json(config), "module": base.name},
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        licence=base.record.checkpoint.licence,
    )
    # In full precision, so that its scores are those of the report.
    save_checkpoint(folder / CHECKPOINT, network, metadata, half=False)
    write_predictions(folder / PREDICTIONS, sounds, evaluated)
    notes = (*sounds.notes, *few_recordings(sounds))
    if base.is_random:
        notes = ("The weights of the network are random, as a control.", *notes)
    result = TrainedClassifier(
        folder / CHECKPOINT,
        folder / REPORT,
        folder / PREDICTIONS,
        labels,
        head_config,
        scored,
        embeddings.failed,
        notes,
    )
    kind = (
        f"head with a hidden layer of {head_config.hidden}" if head_config.hidden else "linear head"
    )
    page = render_report(
        ReportContent(
            run=folder,
            module=base.name,
            head=kind,
            sounds=sounds,
            units=evaluated.units,
            scores=evaluated.scores,
            thresholds=evaluated.thresholds,
            scored=scored,
            tested=evaluated.tested,
            folds=len(np.unique(evaluated.units.folds)),
            failed=embeddings.failed,
            notes=notes,
            version=__version__,
        )
    )
    with atomic_write(folder / REPORT) as part:
        part.write_text(page, encoding="utf-8")
    return result


def write_predictions(path: Path, sounds: Sounds, evaluated: Evaluated) -> None:
    """Write a table with a row for every clip, and for every window of background.

    Columns: file, start and end in seconds, recording, fold, labels separated by ``;``, the class
    with the highest score, the classes that reach their thresholds, whether these are the labels,
    and the scores of all classes.
    """
    units, scores, detected = evaluated.units, evaluated.scores, evaluated.detected
    header = ["file", "start", "end", "recording", "fold", "labels", "predicted", "detected"]
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*header, "correct", *sounds.labels])
        for row, clip in enumerate(units.clips.tolist()):
            present = units.targets[row] > 0
            writer.writerow(
                [
                    sounds.files[clip].name,
                    f"{units.start[row]:.3f}",
                    f"{units.end[row]:.3f}",
                    sounds.recordings[clip],
                    "test" if evaluated.tested else int(units.folds[row]) + 1,
                    ";".join(sounds.files[clip].labels),
                    sounds.labels[int(scores[row].argmax())],
                    ";".join(np.array(sounds.labels)[detected[row]].tolist()),
                    int((present == detected[row]).all()),
                    *(f"{score:.6f}" for score in scores[row]),
                ]
            )


def _without_failed(sounds: Sounds, failed: Mapping[str, str]) -> Sounds:
    """Return sounds whose folds have clips that could be read.

    Raises:
        ConfigError: No clip of a class can be read, or of all folds but one.
    """
    for name, why in failed.items():
        _log.warning("%s is skipped: %s", name, why)
    read = [file.name not in failed for file in sounds.files]
    for label in sounds.labels:
        files = [f for f in sounds.files if label in f.labels]
        if all(file.name in failed for file in files):
            msg = (
                f"none of the {len(files)} clips of the class {label} can be read; the first: "
                f"{failed[files[0].name]}"
            )
            raise ConfigError(msg)
    before, left = np.unique(sounds.folds), np.unique(sounds.folds[read])
    if not (left >= 0).any() or (left != TESTED).sum() < 2:
        msg = (
            "there are clips that can be read in one fold only, so that nothing can be validated; "
            f"the first that cannot: {next(iter(failed.values()))}"
        )
        raise ConfigError(msg)
    lost = [fold + 1 for fold in set(before.tolist()) - set(left.tolist()) if fold >= 0]
    notes = [f"fold {fold} does not have a clip that can be read." for fold in lost]
    return sounds._replace(notes=(*sounds.notes, *notes))


def _check_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run, unless the folder is that of another recipe."""
    path = folder / _SETTINGS
    if path.exists() and read_json(path).get("recipe") != _RECIPE:
        msg = f"{folder} is the folder of a run of another recipe: choose another folder"
        raise ConfigError(msg)
    with atomic_write(path) as part:
        part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _as_json(config: ClassifyConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return found
