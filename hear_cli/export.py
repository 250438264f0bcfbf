"""``hear export``: a plug-in module or a backbone as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hear_cli import options
from hear_cli.sounds import siren
from hear_core.audio.reading import read_audio
from hear_core.export.onnx_file import PRECISIONS, compare, export
from hear_core.plugins.names import load_model


def export_command(
    name: Annotated[
        str, typer.Argument(help="A plug-in module such as mn10_all_b_mel_avgs, or a backbone.")
    ],
    output: Annotated[Path, typer.Argument(help="Of the ONNX file.")],
    precision: Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.")] = "float32",
    audio: Annotated[
        list[Path] | None,
        typer.Option(help="Recording to check the file with and calibrate int8 on; repeatable."),
    ] = None,
    model: options.Model = None,
    taps: Annotated[
        str, typer.Option(help="Separated by commas; default: the module's, or logits.")
    ] = "",
    random_weights: options.RandomWeights = False,
) -> None:
    """Write an ONNX file from waveform to embedding, and check it against torch.

    The check is printed, and written beside the file as .parity.json. If it fails, the exit code
    is 1.
    """
    source = options.weights(model, random=random_weights)
    loaded = load_model(name, taps.split(",") if taps else [], engine="torch", **source)
    if audio:
        recordings = [read_audio(path, loaded.sample_rate).numpy() for path in audio]
    else:
        typer.echo("No --audio was given: checking on a synthetic sound.")
        recordings = [siren(10.0, loaded.sample_rate).numpy()]
    calibration = recordings if audio else []
    export(loaded, output, precision=precision, calibration=calibration)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB, {precision}, {loaded}")

    comparisons = list(compare(output, loaded, recordings, precision))
    typer.echo("runtime      seconds  clips   max abs  relative    cosine")
    for c in comparisons:
        typer.echo(
            f"{c.runtime:12} {c.seconds:7.2f} {c.clips:6d} {c.max_abs:9.2e} {c.relative:9.2e}"
            f" {c.cosine:9.7f}  {'passed' if c.passed else 'FAILED'}"
        )
    report = {"file": output.name, "comparisons": [c._asdict() for c in comparisons]}
    output.with_suffix(".parity.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    if not all(c.passed for c in comparisons):
        raise typer.Exit(1)
