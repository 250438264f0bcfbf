"""``hear export``: a plug-in module or a backbone as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.outputs import check_output_file
from hear_cli.sounds import siren
from hear_core.audio.reading import read_audio
from hear_core.export.onnx_file import PRECISIONS, compare, export
from hear_core.plugins.names import load_model


def _onnx_path(path: Path) -> Path:
    """Return a path that ends in .onnx; a callback of Typer."""
    if path.suffix.lower() != ".onnx":
        msg = f"{path} does not end in .onnx, the only format that is written."
        raise typer.BadParameter(msg)
    check_output_file(path)
    return path


def export_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Plug-in module, such as mn04_e1_l, backbone, checkpoint that was saved by this "
            "package, or folder of a training run.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="ONNX file to write.", callback=_onnx_path)
    ],
    precision: Annotated[
        str, typer.Option(help=f"Precision of the weights: {', '.join(PRECISIONS)}.")
    ] = "float32",
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Recording to check the file on, and to calibrate int8 with; repeat it for more.",
            show_default="a synthetic clip",
        ),
    ] = None,
    model: options.Model = None,
    taps: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Taps of the embedding, separated by commas.",
            show_default="those of the module; the logits of a backbone",
        ),
    ] = "",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Apply a sigmoid to the logits.")
    ] = False,
    random_weights: options.RandomWeights = False,
) -> None:
    """Write an ONNX file from waveform to embedding, and check it against torch.

    Labels are written beside the file as .labels.json, and the result of the check as
    .parity.json. The exit code is 1 if the check fails, for example because more than 2 % of the
    first classes or decisions change. For int8, every second recording is used for calibration
    and the others for the check; a single one is cut in half.
    """
    source = options.weights(model, random=random_weights)
    loaded = load_model(name, taps.split(",") if taps else [], engine="torch", **source)
    if audio:
        recordings = [read_audio(path, loaded.sample_rate).numpy() for path in audio]
    else:
        typer.echo("No --audio is given: the check is on a synthetic clip.")
        recordings = [siren(10.0, loaded.sample_rate).numpy()]
    calibration: list[np.ndarray] = []
    if precision == "int8" and audio:
        calibration, recordings = _split(recordings)
    output.parent.mkdir(parents=True, exist_ok=True)
    export(
        loaded, output, precision=precision, calibration=calibration, probabilities=probabilities
    )
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB, {precision}, {loaded}")

    comparisons = list(compare(output, loaded, recordings, precision, probabilities=probabilities))
    typer.echo("runtime      seconds  clips   max abs  relative    cosine  first class  decisions")
    for c in comparisons:
        typer.echo(
            f"{c.runtime:12} {c.seconds:7.2f} {c.clips:6d} {c.max_abs:9.2e} {c.relative:9.2e}"
            f" {c.cosine:9.7f} {_percent(c.first_class):>12} {_percent(c.decisions):>10}"
            f"  {'passed' if c.passed else 'FAILED'}"
        )
    report = {"file": output.name, "comparisons": [c._asdict() for c in comparisons]}
    output.with_suffix(".parity.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    if not all(c.passed for c in comparisons):
        raise typer.Exit(1)


def _split(recordings: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return recordings to calibrate with and others to check on."""
    if len(recordings) == 1:
        half = -(-len(recordings[0]) // 2)
        recordings = [
            recordings[0][:half],
            recordings[0][half:] if half < len(recordings[0]) else recordings[0],
        ]
    return list(recordings[::2]), list(recordings[1::2])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
