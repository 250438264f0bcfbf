"""Options that several commands share; they are imported without PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hear_cli.numbers import DAY, SAMPLE_RATES, SMALLEST, number
from hear_cli.outputs import check_output_file, check_plot_folder
from hear_core.events.change_points import ChangePoints
from hear_core.events.decoding import EventDecoding
from hear_core.events.formats import FORMATS
from hear_core.zoo.labels import read_groups, read_thresholds, select_classes

if TYPE_CHECKING:
    from hear_eval.downstream.evaluation import EvaluationSettings

LONGEST_WINDOW = 60.0  # seconds; a network processes a window in one piece


def _check_device(name: str) -> str:
    """Return a device if something can be computed on it here."""
    if name not in ("", "auto"):
        import torch

        try:
            torch.zeros(1, device=name).item()
        except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            msg = f"Nothing can be computed on the device {name!r} here: {reason}. Try cpu."
            raise typer.BadParameter(msg) from error
    return name


def seconds(help_: str, low: float = SMALLEST, high: float = DAY, *names: str, **more: Any) -> Any:
    """Return an option that is a number of seconds."""
    return number(help_, low, high, *names, metavar="SECONDS", **more)


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILES",
        help="Audio files, folders to search for them, patterns such as 'site*/*.wav', and tables "
        "with a column file.",
    ),
]
Specific = Annotated[
    bool,
    typer.Option(
        "--specific",
        help="Leave out classes of AudioSet where a more specific one is found at the same time, "
        "such as Animal and Dog where there is Bark. Groups of --groups are kept.",
    ),
]
Jobs = Annotated[
    int, number("Number of files to process at a time.", 1, 256, "--jobs", "-j", metavar="N")
]
Clock = Annotated[
    bool,
    typer.Option(
        "--clock",
        help="Add the date and the time of day of every row, where the file name has the start of "
        "the recording, such as 20260501_050000.",
    ),
]
Backbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        "-b",
        metavar="NAME",
        help="Backbone of the tagger; repeat it for an ensemble.",
        show_default="that of --model, else mn10_as",
    ),
]
Device = Annotated[
    str, typer.Option(help="Device to compute on, such as cpu or cuda.", callback=_check_device)
]
PluginDevice = Annotated[
    str,
    typer.Option(
        help="Device to compute on, such as cpu or cuda; auto is a GPU where there is one.",
        callback=_check_device,
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RUN",
        help="Checkpoint with the weights, or the folder of a training run.",
        show_default="the released one",
        exists=True,
    ),
]
ModelOptions = Annotated[
    str, typer.Option(metavar="JSON", help="Options for the plug-in's load_model.")
]
FolderName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Name of the folder of embeddings.",
        show_default="the module and its options",
    ),
]
Audio = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of the audio files that the table names.",
        show_default="that of the table",
        exists=True,
        file_okay=False,
    ),
]
TaskFolder = Annotated[
    Path, typer.Argument(metavar="TASKS", help="Folder of tasks that the new one is put into.")
]
TaskName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the task.", show_default="that of the source"),
]
TasksDir = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder that holds the tasks.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Task of that folder to use; repeat it for several.",
        show_default="all of them",
    ),
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Use random weights, to try a command out.")
]
SampleRate = Annotated[
    int, number("Sample rate of the audio in Hz.", *SAMPLE_RATES, "--sample-rate", metavar="HZ")
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Classes or groups to report, separated by commas: 'Speech,Music'.",
        show_default="all of them",
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YAML file of groups of classes, scored by their highest: 'Rail: [Train, Subway]'.",
        exists=True,
        dir_okay=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write to.",
        show_default="standard output",
        callback=check_output_file,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for a picture of every recording: its log-mel and the scores over time.",
        callback=check_plot_folder,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help=f"Format of the output: table, {', '.join(FORMATS)}. Those of Audacity and Raven hold "
        "one recording per file: beside the recordings, or in --output, a folder.",
    ),
]
Top = Annotated[int, number("Number of classes to name, the highest first.", 1, 100_000)]


class OutputOptions(NamedTuple):
    """Options of what is written of recordings, and where."""

    format_: Format = "table"
    output: Output = None
    clock: Clock = False
    plot: Plot = None
    jobs: Jobs = 1


_SEBBS = "sebbs"


def _check_smoothing(value: str) -> str:
    if value == _SEBBS or (value.isascii() and value.isdecimal() and 1 <= int(value) <= 9_999):
        return value
    msg = f"{value!r} is neither a whole number from 1 to 9999 nor {_SEBBS!r}."
    raise typer.BadParameter(msg)


def given_options(context: typer.Context) -> frozenset[str]:
    """Return the names of the parameters that the user gave, not those left at their default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(
        name for name, source in sources.items() if source and "DEFAULT" not in source.name
    )


class EventOptions(NamedTuple):
    """Options for turning scores over time into events; see `EventDecoding`."""

    threshold: Annotated[
        float, number("Score at which an event begins.", 0, 1, rich_help_panel="Events")
    ] = 0.3
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file of thresholds for single classes: 'Speech: 0.5'.",
            show_default="those of the checkpoint, if any",
            exists=True,
            dir_okay=False,
            rich_help_panel="Events",
        ),
    ] = None
    release: Annotated[
        float,
        number("Share of the threshold below which an event ends.", 0, 1, rich_help_panel="Events"),
    ] = 0.8
    median: Annotated[
        int,
        number(
            "Length of a median filter over the scores, an odd number of windows or frames.",
            1,
            9_999,
            rich_help_panel="Events",
        ),
    ] = 1
    smoothing: Annotated[
        str,
        typer.Option(
            metavar="N|sebbs",
            help="Length of a moving average over the scores, in windows or frames; or sebbs, for "
            "events between change points, in place of median, release and merge gap.",
            callback=_check_smoothing,
            rich_help_panel="Events",
        ),
    ] = "1"
    merge_gap: Annotated[
        float,
        seconds("Longest pause within an event.", 0, rich_help_panel="Events"),
    ] = 0.0
    min_duration: Annotated[
        float, seconds("Length of the shortest event.", 0, rich_help_panel="Events")
    ] = 0.0

    def decoding(
        self,
        labels: Sequence[str],
        own: Mapping[str, float],
        given: Collection[str],
        tuned: EventDecoding | None = None,
    ) -> EventDecoding:
        """Return the parameters of event decoding.

        Args:
            labels: Names of the classes or groups that are reported.
            own: Thresholds of the checkpoint by label, used where no threshold is given.
            given: Names of the options that the user gave, see `given_options`.
            tuned: Parameters of the checkpoint, used where the user gave none.

        Raises:
            BadParameter: The median filter has an even length.
            ConfigError: The file of thresholds cannot be read, or names an unknown class.
        """
        if self.median % 2 == 0:
            msg = f"{self.median} is not an odd number."
            raise typer.BadParameter(msg, param_hint="--median")
        if self.thresholds:
            own = read_thresholds(self.thresholds, labels)
        elif "threshold" in given:
            own = {}
        known = {label: value for label, value in own.items() if label in labels}
        values: dict[str, Any] = {**self._asdict(), "thresholds": known or None}
        if self.smoothing == _SEBBS:
            points = tuned.change_points if tuned else None
            values |= {"smoothing": 1, "change_points": points or ChangePoints()}
        else:
            values["smoothing"] = int(self.smoothing)
        if tuned is None:
            return EventDecoding(**values)
        chosen = {name: values[name] for name in values if name in given}
        if {"smoothing", "median"} & set(given):
            chosen["change_points"] = values.get("change_points")
        return replace(tuned, **chosen | {"thresholds": values["thresholds"]})


class EvaluationOptions(NamedTuple):
    """Options of an evaluation; see `hear_eval.downstream.evaluation.EvaluationSettings`."""

    grid: Annotated[
        str,
        typer.Option(
            help="Hyperparameter grid of heareval: default, fast, or faster, which is for trying "
            "things out: its scores may be at chance.",
            rich_help_panel="Evaluation",
        ),
    ] = "default"
    grid_points: Annotated[
        int,
        number("Number of points of the grid to try.", 1, 100_000, rich_help_panel="Evaluation"),
    ] = 8
    seed: Annotated[
        int,
        number(
            "Seed of the grid's points, of initial weights and of dropout.",
            0,
            2**31 - 1,
            rich_help_panel="Evaluation",
        ),
    ] = 42
    device: Annotated[
        str,
        typer.Option(
            help="Device to compute on, such as cpu or cuda; auto is a GPU where there is one.",
            callback=_check_device,
            rich_help_panel="Evaluation",
        ),
    ] = "auto"
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of matrix products: float32, bfloat16, or auto, the faster of both.",
            rich_help_panel="Evaluation",
        ),
    ] = "auto"

    def settings(self) -> EvaluationSettings:
        """Return them as hear_eval takes them, with a warning of a grid that is not meaningful."""
        from hear_eval.downstream.evaluation import EvaluationSettings

        if self.grid == "faster":
            typer.echo(
                "hear: scores of --grid faster may be at chance; compare no models by them",
                err=True,
            )
        return EvaluationSettings(*self)


def weights(model: Path | None, *, random: bool) -> dict[str, Any]:
    """Return the options of `hear_core.plugins.loading.load_plugin` about weights."""
    return {"pretrained": False} if random else {"model_file_path": str(model or "")}


def classes(
    labels: Sequence[str], only: str | None, groups: Path | None
) -> Mapping[str, Sequence[str]]:
    """Return what is reported, by name: groups of classes, or single ones."""
    known = read_groups(groups, labels) if groups else {label: [label] for label in labels}
    return {name: known[name] for name in select_classes(only, list(known))} if only else known


def module_names(names: Sequence[str]) -> list[str]:
    """Return the names to import plug-in modules by; those of the working directory count.

    Raises:
        ConfigError: A name is unknown.
    """
    # A console script has the folder of the script on its path, not the user's. It comes last, so
    # that a file of the user's does not replace a module that the command itself imports.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    from hear_core.plugins.names import module_name

    return [module_name(name) for name in names]


def plugin_device(device: str) -> str:
    """Return a device as plug-ins take it: without one they take the GPU, if there is one."""
    return "" if device == "auto" else device


def check_single(modules: Sequence[str], name: str | None, model: Path | None = None) -> None:
    """Check the options that are for one module only, and that a name is that of a folder.

    Raises:
        BadParameter: There are several modules, or the name cannot be that of a folder.
    """
    given = {"--name": name, "--model": model}
    for option, value in given.items():
        if value is not None and len(modules) > 1:
            msg = f"{value} is for one module, and there are {len(modules)}: {', '.join(modules)}"
            raise typer.BadParameter(msg, param_hint=option)
    if name is not None and (Path(name).name != name or name in ("", "..") or "\0" in name):
        msg = f"{name!r} is not the name of a folder."
        raise typer.BadParameter(msg, param_hint="--name")


def load_options(text: str) -> dict[str, Any]:
    """Return the options of ``load_model`` that are given as JSON.

    Raises:
        BadParameter: The text is not a JSON object.
    """
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{text!r} is not JSON: {error}"
        raise typer.BadParameter(msg, param_hint="--model-options") from error
    if not isinstance(options, dict):
        msg = f'{text!r} is not a JSON object, such as \'{{"taps": ["l"]}}\''
        raise typer.BadParameter(msg, param_hint="--model-options")
    return options
