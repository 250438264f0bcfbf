"""The ``hear`` command and its subcommands."""

from __future__ import annotations

import sys

import typer

from hear_cli import (
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
    tag,
    tasks,
    train,
    weights,
)
from hear_core.errors import HearError

app = typer.Typer(
    help="Efficient pre-trained audio networks, as HEAR plug-ins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(modules.list_modules)
app.command("info")(info.info)
app.command("tag")(tag.tag)
app.command("detect")(detect.detect)
app.command("listen")(listen.listen)
app.command("embed")(embed.embed_command)
app.command("run")(run.run)
app.command("evaluate")(evaluate.evaluate_command)
app.command("weights")(weights.weights)
app.command("complexity")(complexity.complexity_command)
app.command("demo")(demo.demo)
app.command("export")(export.export_command)
app.command("search")(search.search_command)
app.command("mini")(mini.mini)
app.command("report")(report.report)
app.add_typer(tasks.app, name="tasks")
app.add_typer(train.app, name="train")


def main() -> None:
    """Run the command; an error that we raised on purpose is a message and exit code 1."""
    try:
        app()
    except HearError as error:
        sys.exit(f"hear: {error}")
