"""``hear demo``: embed a clip made here and now, to see that everything works."""

from __future__ import annotations

import time

import typer

from hear_cli.sounds import siren
from hear_core.checkpoints import find
from hear_mn import ZOO, mn04_e1_l


def demo() -> None:
    """Embed ten seconds of synthetic sound with hear_mn.mn04_e1_l, and say what came out."""
    checkpoint = ZOO[mn04_e1_l.config.backbone].checkpoint
    file = find(checkpoint)
    if file is None:
        typer.echo(
            f"The released weights ({checkpoint.file}) are not on this machine: these are RANDOM\n"
            "stand-in weights. Shapes, times and speed are right; the embeddings mean nothing."
        )
    else:
        typer.echo(f"Weights: {file}")
    model = mn04_e1_l.load_model(pretrained=file is not None)

    audio = siren(10.0, model.sample_rate)[None]
    typer.echo(f"audio                {tuple(audio.shape)}, 10 s of a siren in noise")
    model.get_scene_embeddings(audio)  # the first call makes the graph that later ones run
    start = time.perf_counter()
    scene = model.get_scene_embeddings(audio)
    typer.echo(f"scene embedding      {tuple(scene.shape)} in {_since(start)}")
    start = time.perf_counter()
    embeddings, timestamps = model.get_timestamp_embeddings(audio)
    typer.echo(f"timestamp embeddings {tuple(embeddings.shape)} in {_since(start)}")
    first = ", ".join(f"{t:g}" for t in timestamps[0, :4].tolist())
    typer.echo(f"timestamps           {first} … {timestamps[0, -1]:g} ms")


def _since(start: float) -> str:
    return f"{1000 * (time.perf_counter() - start):.0f} ms"
