"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hear_core.zoo.labels import read_groups, select_classes

Backbones = Annotated[
    list[str] | None, typer.Option("--backbone", "-b", help="Repeat for an ensemble.")
]
Device = Annotated[str, typer.Option(help="Such as cpu or cuda.")]
Model = Annotated[Path | None, typer.Option(help="File of weights; default: the released ones.")]
PluginWeights = Annotated[
    Path | None, typer.Option(help="File of weights; default: those of the plug-in.", exists=True)
]
ModelOptions = Annotated[str, typer.Option(help="For load_model, as JSON.")]
FolderName = Annotated[
    str | None,
    typer.Option("--name", help="Of the folder of embeddings; default: module and options."),
]
Audio = Annotated[
    Path | None, typer.Option(help="Folder of the audio files; default: beside the table.")
]
TaskFolder = Annotated[Path, typer.Argument(help="Folder to put the task into.")]
TaskName = Annotated[str | None, typer.Option(help="Of the task; default: of the source.")]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="To try things without a checkpoint.")
]

# What makes an event of scores, see hear_core.events.decoding.EventRule.
Threshold = Annotated[float, typer.Option(help="Score from which on a class is heard.")]
Thresholds = Annotated[
    Path | None, typer.Option(help="YAML with thresholds of single classes: 'Speech: 0.5'.")
]
Release = Annotated[
    float, typer.Option(help="An event lasts until it falls below this share of the threshold.")
]
Smoothing = Annotated[int, typer.Option(help="Windows to average scores over.")]
MergeGap = Annotated[float, typer.Option(help="Seconds; events closer together are one.")]
Only = Annotated[
    str | None, typer.Option(help="Classes or groups to look for, such as 'Speech,Music'.")
]
Groups = Annotated[
    Path | None, typer.Option(help="YAML with groups of classes: 'Rail: [Train, Subway]'.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write to; else it is printed.")
]
MinDuration = Annotated[float, typer.Option(help="Seconds; shorter events are dropped.")]

# How embeddings are evaluated, see hear_eval.downstream.evaluation.Options.
Grid = Annotated[str, typer.Option(help="default, fast or faster: those of heareval.")]
GridPoints = Annotated[int, typer.Option(help="Points of the grid to try.", min=1)]
Seed = Annotated[int, typer.Option(help="Of evaluations; another tries other points.", min=0)]
AutoDevice = Annotated[str, typer.Option(help="Such as cpu or cuda; auto is a GPU, if any.")]
Precision = Annotated[str, typer.Option(help="float32, bfloat16 or, with auto, the faster.")]


def weights(model: Path | None, *, random: bool) -> dict[str, Any]:
    """Return the options of `hear_core.plugins.loading.load_plugin` about weights."""
    return {"pretrained": False} if random else {"model_file_path": str(model or "")}


def classes(
    labels: Sequence[str], only: str | None, groups: Path | None
) -> Mapping[str, Sequence[str]]:
    """Return what is looked for, by name: groups of classes, or single ones."""
    known = read_groups(groups, labels) if groups else {label: [label] for label in labels}
    return {name: known[name] for name in select_classes(only, list(known))} if only else known


def plugin_device(device: str) -> str:
    """Return a device as plug-ins take it: without one they take the GPU, if there is one."""
    return "" if device == "auto" else device


def check_single(modules: Sequence[str], name: str | None, model: Path | None = None) -> None:
    """Check what can be said of one module only, and that a name is that of a folder.

    Raises:
        BadParameter: There are several, or it is none.
    """
    given = {"--name": name, "--model": model}
    for option, value in given.items():
        if value is not None and len(modules) > 1:
            msg = f"{value} is for one module, and there are {len(modules)}: {', '.join(modules)}"
            raise typer.BadParameter(msg, param_hint=option)
    if name is not None and (Path(name).name != name or name in ("", "..")):
        msg = f"{name!r} is no name of a folder"
        raise typer.BadParameter(msg, param_hint="--name")


def load_options(text: str) -> dict[str, Any]:
    """Return the options of ``load_model`` that are given as JSON.

    Raises:
        BadParameter: They are none.
    """
    try:
        options = json.loads(text)
    except ValueError as error:
        msg = f"{text!r} is not JSON: {error}"
        raise typer.BadParameter(msg, param_hint="--model-options") from error
    if not isinstance(options, dict):
        msg = f'{text!r} is not a JSON object, such as \'{{"taps": ["l"]}}\''
        raise typer.BadParameter(msg, param_hint="--model-options")
    return options
