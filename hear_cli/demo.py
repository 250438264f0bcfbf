"""``hear demo``: tag and embed a synthetic clip, to see that everything works."""

from __future__ import annotations

import time

import typer

from hear_cli.sounds import siren
from hear_core.zoo.checkpoints import find_checkpoint
from hear_mn import ZOO, EATagger, starter


def demo() -> None:
    """Tag and embed a synthetic clip offline, to check an installation.

    The network is the one that comes with the package, and the clip is ten seconds of a siren in
    noise.
    """
    backbone = starter.config.backbone
    typer.echo(f"weights              {find_checkpoint(ZOO[backbone].checkpoint)}")
    model = starter.load_model()
    audio = siren(10.0, model.sample_rate)[None]
    typer.echo(f"audio                {tuple(audio.shape)}, 10 s of a siren in noise")

    tagger = EATagger(backbone)
    scores, _ = tagger.tag(audio[0])
    tags = ", ".join(f"{tagger.labels[i]} {scores[i]:.2f}" for i in (-scores).argsort()[:5])
    typer.echo(f"tags                 {tags}")
    model.get_scene_embeddings(audio)  # the first call builds the graph that later ones run
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
