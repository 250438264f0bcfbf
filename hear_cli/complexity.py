"""``hear complexity``: what backbones cost."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hear_cli.options import seconds
from hear_cli.tables import print_table, short
from hear_core.analysis.complexity import Complexity, complexity
from hear_core.plugins.names import find_plugin

_COLUMNS = (
    "backbone",
    "parameters",
    "MACs",
    "peak memory",
    "in parts",
    "receptive field",
    "seconds",
)


def complexity_command(
    names: Annotated[
        list[str], typer.Argument(metavar="NAMES", help="Backbones, or modules that use them.")
    ],
    clip: Annotated[
        float, seconds("Length of the clip that is counted on.", 1e-3, 3600.0, "--seconds")
    ] = 10.0,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Value of the network or its front-end to replace, such as model.width_mult=0.1, "
            "model.head=fully_convolutional, model.se_dims=f or model.frontend.sample_rate=16000.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exact numbers as JSON, with memory in bytes.")
    ] = False,
) -> None:
    """Count parameters, operations and memory of backbones.

    No weights are needed. MACs are the multiply-accumulates from the log-mel of a clip to the
    logits. Peak memory is that of the activations at 16 bits while one layer runs: its input, its
    output, and what later layers need; "in parts" computes inverted residuals an eighth of their
    channels at a time. The receptive field is what one point of the last map depends on, in mel
    bands x frames and in seconds of audio; with attention or a recurrence, it is the whole clip.
    """
    # Several modules may have one backbone.
    plugins = [find_plugin(name) for name in names]
    records = {found.backbone: found.record for found in plugins}
    if overrides:
        from hear_train.recipes import altered_record

        zoos = {found.backbone: found.package.ZOO for found in plugins}
        records = {name: altered_record(name, overrides, zoo) for name, zoo in zoos.items()}
    found = {backbone: complexity(record, clip) for backbone, record in records.items()}
    if as_json:
        entries = [{"backbone": name, **costs._asdict()} for name, costs in found.items()]
        typer.echo(json.dumps(entries, indent=1))
    else:
        print_table(_COLUMNS, [[name, *cells(costs)] for name, costs in found.items()])


def cells(costs: Complexity) -> list[str]:
    """Return the cells of a row of the table after the name."""
    field, span = costs.receptive_field, costs.receptive_field_seconds
    return [
        short(costs.parameters),
        short(costs.macs),
        f"{costs.peak_memory / 1000:.0f} kB",
        f"{costs.peak_memory_channelwise / 1000:.0f} kB",
        "whole clip" if field is None else f"{field[0]} x {field[1]}",
        "" if span is None else f"{span:.2f}",
    ]
