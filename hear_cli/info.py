"""``hear info``: everything about one plug-in module or backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from hear_cli.figures import kept_complexity, short
from hear_cli.tables import print_table
from hear_core.networks.taps import TapShape
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.loading import extractor_skeleton
from hear_core.plugins.names import FoundPlugin, find_plugin
from hear_core.zoo.checkpoints import cache_folder, find_checkpoint


def info(
    name: Annotated[
        str, typer.Argument(help="A plug-in module such as mn10_all_b_mel_avgs, or a backbone.")
    ],
) -> None:
    """Show what a module or a backbone is: taps, windows, weights, published figures, costs."""
    found = find_plugin(name)
    about = _of_module(found, found.config) if found.config else _of_backbone(found)
    print_table((), [*about, *_of_weights(found), *_of_costs(found)])


def _of_module(found: FoundPlugin, config: EmbeddingConfig) -> Iterator[tuple[str, str]]:
    extractor = extractor_skeleton(found.package.ZOO, config)
    yield "module", f"{found.package.__name__}.{found.name}"
    if config.note:
        yield "note", config.note
    yield "embedding", f"{extractor.size} numbers"
    for tap, columns in extractor.slices.items():
        yield f"  {tap}", f"columns {columns.start} to {columns.stop - 1}"
    yield "pooling", config.pooling
    if (step := extractor.samples_per_frame) is not None:
        yield "timestamps", f"every frame, of {step / extractor.frontend.sample_rate:g} s"
        scenes = "the mean of frames; "
    else:
        window, hop = config.timestamp_window, config.timestamp_hop
        yield "timestamps", f"{window:g} s around each, every {hop:g} s"
        scenes = ""
    yield (
        "scenes",
        f"{scenes}up to {config.scene_window:g} s whole, longer ones in windows of that length, "
        f"every {config.scene_hop:g} s",
    )
    yield "backbone", found.backbone


def _of_backbone(found: FoundPlugin) -> Iterator[tuple[str, str]]:
    yield "backbone", f"{found.backbone}, of {found.package.__name__}"
    for tap, shape in found.record.skeleton().tap_shapes.items():
        yield f"  {tap}", _describe(shape)


def _describe(shape: TapShape) -> str:
    channels = f"{shape.channels} channels"
    return channels if shape.bands is None else f"{channels}, {shape.bands} bands"


def _of_weights(found: FoundPlugin) -> Iterator[tuple[str, str]]:
    checkpoint, frontend = found.record.checkpoint, found.record.frontend()
    yield "sample rate", f"{frontend.sample_rate} Hz"
    yield (
        "log-mel",
        f"{frontend.n_mels} bands, every {1000 * frontend.hop / frontend.sample_rate:g} ms",
    )
    yield "checkpoint", checkpoint.file
    yield "  released at", checkpoint.url
    yield "  licence", checkpoint.licence
    yield "  SHA-256", checkpoint.sha256 or "not published; that of the first file used is kept"
    file = find_checkpoint(checkpoint)
    yield (
        "  here",
        str(file) if file else f"not on this machine; it will be fetched into {cache_folder()}",
    )
    for figure, value in found.record.reported_metrics.items():
        yield f"{figure}, published", f"{value:g}"


def _of_costs(found: FoundPlugin) -> Iterator[tuple[str, str]]:
    costs = kept_complexity(found.package, found.backbone)
    bands, frames = costs.receptive_field
    yield "parameters", f"{short(costs.parameters)} ({costs.parameters})"
    yield f"MACs of {costs.seconds:g} s", f"{short(costs.macs)} ({costs.macs})"
    yield (
        "peak memory",
        f"{costs.peak_memory / 1000:g} kB of activations, "
        f"{costs.peak_memory_channelwise / 1000:g} kB computed in parts",
    )
    yield (
        "receptive field",
        f"{bands} mel bands x {frames} frames, {costs.receptive_field_seconds:.2f} s",
    )
