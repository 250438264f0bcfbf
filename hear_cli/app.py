"""The ``hear`` command: its subcommands, in groups."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from hear_cli.failures import Failures
from hear_core._version import __version__

if TYPE_CHECKING:
    from typer._click.core import Command, Context


_MARKUP: Literal["markdown"] = "markdown"


class Entry(NamedTuple):
    """A command that is imported when it is run.

    Args:
        target: Module in `hear_cli` and name of its function or Typer application there.
        summary: First sentence of its help.
    """

    target: str
    summary: str

    def load(self, name: str) -> Command:
        """Import the command."""
        module, _, attribute = self.target.partition(".")
        found = getattr(import_module(f"hear_cli.{module}"), attribute)
        alone = typer.Typer(rich_markup_mode=_MARKUP)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return get_group(alone).commands[name]


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Use": {
        "tag": Entry("tag.tag", "Tag audio files: as a whole, in windows, or as events in time."),
        "detect": Entry(
            "detect.detect", "Detect sound events in audio files, with onset and offset."
        ),
        "listen": Entry(
            "listen.listen", "Print events in live audio on standard input, as they end."
        ),
        "clips": Entry(
            "clips.clips",
            "Cut the best moments of every class out of the recordings, to listen to them.",
        ),
        "summary": Entry(
            "summary.summary", "Count events by class, recording, date and hour of the day."
        ),
        "similar": Entry(
            "similar.similar",
            "Find the recordings, or the moments in them, that sound most like examples.",
        ),
        "embed": Entry(
            "embed.embed_command",
            "Embed every audio file of folders, and write an index of the results.",
        ),
        "demo": Entry(
            "demo.demo", "Tag and embed a synthetic clip offline, to check an installation."
        ),
    },
    "Models": {
        "list": Entry(
            "modules.list_modules",
            "List the plug-in modules, their embeddings and the costs of their backbones.",
        ),
        "info": Entry(
            "info.info", "Show the embedding, weights, published metrics and costs of a model."
        ),
        "weights": Entry(
            "weights.weights",
            "List checkpoints and where they are on this machine; download or verify them.",
        ),
        "complexity": Entry(
            "complexity.complexity_command",
            "Count parameters, operations and memory of backbones.",
        ),
        "export": Entry(
            "export.export_command",
            "Write an ONNX file from waveform to embedding, and check it against torch.",
        ),
    },
    "Benchmark": {
        "tasks": Entry("tasks.app", "Make, check, list and resample HEAR tasks on disk."),
        "run": Entry("run.run", "Embed HEAR tasks with plug-ins, for `hear evaluate` or heareval."),
        "evaluate": Entry(
            "evaluate.evaluate_command",
            "Train and test predictors on embeddings, by heareval's protocol.",
        ),
        "report": Entry(
            "report.report",
            "Write scores as tables, a web page and pictures, beside HEAR's leaderboard.",
        ),
        "mini": Entry(
            "mini.mini", "Compare plug-ins on mini-HEAR: make its tasks, embed and evaluate them."
        ),
        "search": Entry(
            "search.search_command",
            "Evaluate combinations of a backbone's taps, and list the best of each size.",
        ),
    },
    "Training": {
        "train": Entry("train.app", "Train a network: hear train RECIPE RUN --data PATH."),
        "test": Entry(
            "train_evaluation.evaluate_recipe",
            "Compute the metrics of a network on the data set of a recipe.",
        ),
    },
}

FORMER_NAMES = {"rate": "sample-rate"}
"""Earlier names of options, which are still understood."""


class DeferredCommand(TyperCommand):
    """A command in the list of commands, whose module is imported only when it is run.

    The modules import PyTorch, which takes more than a second.

    Args:
        name: Name of the command.
        entry: Command that it runs.
        group: Group in which the help lists it.
    """

    def __init__(self, name: str, entry: Entry, group: str) -> None:
        super().__init__(name, help=entry.summary, rich_help_panel=group)
        self.loaded = cache(lambda: entry.load(name))

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Import the command, and return its context."""
        return self.loaded().make_context(info_name, args, parent, **extra)


class DeferredGroup(TyperGroup):
    """The group of the commands of `GROUPS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for group, entries in GROUPS.items():
            for name, entry in entries.items():
                self.commands[name] = DeferredCommand(name, entry, group)


app = typer.Typer(
    cls=DeferredGroup,
    help="Tag, detect and embed sound with small pre-trained networks, and benchmark them on HEAR.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=_MARKUP,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: FORMER_NAMES.get(name, name),
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hear {__version__}")
        raise typer.Exit


@app.callback()
def hear(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="HEAR_DEBUG", help="Show the Python traceback of an error."),
    ] = False,
) -> None:
    """Set what holds for every command."""
    if debug and isinstance(context.obj, Failures):
        context.obj.debug = True


def run_app() -> None:
    """Run the command; a failure is a sentence on standard error and an exit code."""
    failures = Failures()
    with failures.reported():
        app(obj=failures)
