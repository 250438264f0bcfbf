"""``hear info``: everything about one plug-in module or backbone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer

from hear_cli.tables import print_table, short
from hear_core.analysis.complexity import Complexity, complexity
from hear_core.analysis.complexity_cache import cached_complexity
from hear_core.networks.taps import TapShape
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.loading import extractor_skeleton
from hear_core.plugins.names import FoundPlugin, find_plugin
from hear_core.zoo.checkpoints import cache_folder, find_checkpoint
from hear_core.zoo.registry import NetworkRecord


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Plug-in module, such as mn04_e1_l, backbone, or checkpoint file that was saved "
            "by this package.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Value of the backbone to replace, such as model.width_mult=0.1.",
        ),
    ] = None,
) -> None:
    """Show the embedding, weights, published metrics and costs of a model.

    With --set, it is an architecture without weights, as hear train takes it.
    """
    found = find_plugin(name)
    if overrides:
        from hear_train.recipes import altered_record

        record = altered_record(found.backbone, overrides, found.package.ZOO)
        about = [
            *_of_backbone(found, record),
            *_of_frontend(record),
            *_of_costs(complexity(record)),
        ]
        print_table((), about)
        return
    costs = cached_complexity(found.package, found.backbone)
    shown = (
        _of_module(found, found.config) if found.config else _of_backbone(found, found.record),
        _of_frontend(found.record),
        _of_weights(found),
        _of_costs(costs),
    )
    print_table((), [*chain.from_iterable(shown)])


def _of_module(found: FoundPlugin, config: EmbeddingConfig) -> Iterator[tuple[str, str]]:
    extractor = extractor_skeleton(found.package.ZOO, config)
    yield "module", f"{found.package.__name__}.{found.name}"
    if config.note:
        yield "note", config.note
    yield "embedding size", f"{extractor.size}"
    for tap, columns in extractor.slices.items():
        yield f"  {tap}", f"columns {columns.start} to {columns.stop - 1}"
    yield "pooling", config.pooling
    if (step := extractor.samples_per_frame) is not None:
        yield "timestamps", f"every {step / extractor.frontend.sample_rate:g} s, one per frame"
        scenes = "mean over the frames; "
    else:
        window, hop = config.timestamp_window, config.timestamp_hop
        yield "timestamps", f"every {hop:g} s, of a window of {window:g} s around each"
        scenes = ""
    yield (
        "scenes",
        f"{scenes}longer than {config.scene_window:g} s: mean over windows of that length, "
        f"every {config.scene_hop:g} s",
    )
    yield "backbone", found.backbone


def _of_backbone(found: FoundPlugin, record: NetworkRecord) -> Iterator[tuple[str, str]]:
    yield "backbone", f"{found.backbone}, in {found.package.__name__}"
    for tap, shape in record.skeleton().tap_shapes.items():
        yield f"  {tap}", _describe(shape)


def _describe(shape: TapShape) -> str:
    channels = f"{shape.channels} channels"
    return channels if shape.bands is None else f"{channels}, {shape.bands} bands"


def _of_frontend(record: NetworkRecord) -> Iterator[tuple[str, str]]:
    frontend = record.frontend()
    yield "sample rate", f"{frontend.sample_rate} Hz"
    yield (
        "log-mel",
        f"{frontend.n_mels} bands, every {1000 * frontend.hop / frontend.sample_rate:g} ms",
    )


def _of_weights(found: FoundPlugin) -> Iterator[tuple[str, str]]:
    checkpoint = found.record.checkpoint
    yield "checkpoint", checkpoint.file
    if checkpoint.url:
        yield "  released at", checkpoint.url
        unknown = "not published; that of the first file that loads is recorded"
        yield "  SHA-256", checkpoint.sha256 or unknown
        file = find_checkpoint(checkpoint)
        yield (
            "  on this machine",
            str(file) if file else f"no; it will be downloaded into {cache_folder()}",
        )
    if checkpoint.licence:
        yield "  licence", checkpoint.licence
    for metric, value in found.record.reported_metrics.items():
        yield f"published {metric}", f"{value:g}"


def _of_costs(costs: Complexity) -> Iterator[tuple[str, str]]:
    field, span = costs.receptive_field, costs.receptive_field_seconds
    yield "parameters", f"{short(costs.parameters)} ({costs.parameters})"
    yield f"MACs on {costs.seconds:g} s", f"{short(costs.macs)} ({costs.macs})"
    yield (
        "peak memory",
        f"{costs.peak_memory / 1000:g} kB of activations, "
        f"{costs.peak_memory_channelwise / 1000:g} kB in parts",
    )
    yield (
        "receptive field",
        "the whole clip"
        if field is None
        else f"{field[0]} mel bands x {field[1]} frames, {span:.2f} s",
    )
