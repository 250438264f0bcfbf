"""The ``hear`` command: its subcommands, in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from hear_cli import (
    clips,
    complexity,
    demo,
    detect,
    embed,
    evaluate,
    export,
    info,
    listen,
    mini,
    modules,
    report,
    run,
    search,
    similar,
    summary,
    tag,
    tasks,
    train,
    train_evaluation,
    weights,
)
from hear_cli.failures import Failures
from hear_core import __version__

GROUPS: Mapping[str, Mapping[str, Callable[..., None] | typer.Typer]] = {
    "Use": {
        "tag": tag.tag,
        "detect": detect.detect,
        "listen": listen.listen,
        "clips": clips.clips,
        "summary": summary.summary,
        "similar": similar.similar,
        "embed": embed.embed_command,
        "demo": demo.demo,
    },
    "Models": {
        "list": modules.list_modules,
        "info": info.info,
        "weights": weights.weights,
        "complexity": complexity.complexity_command,
        "export": export.export_command,
    },
    "Benchmark": {
        "tasks": tasks.app,
        "run": run.run,
        "evaluate": evaluate.evaluate_command,
        "report": report.report,
        "mini": mini.mini,
        "search": search.search_command,
    },
    "Training": {
        "train": train.app,
        "test": train_evaluation.evaluate_recipe,
    },
}

FORMER_NAMES = {"rate": "sample-rate"}
"""Earlier names of options, which are still understood."""

app = typer.Typer(
    help="Tag, detect and embed sound with small pre-trained networks, and benchmark them on HEAR.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: FORMER_NAMES.get(name, name),
    },
)
for _group, _commands in GROUPS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_group)
        else:
            app.command(_name, rich_help_panel=_group)(_command)


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
