"""``hear search``: which taps of a backbone make the best embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hear_cli.numbers import number
from hear_cli.option_groups import with_groups
from hear_cli.options import EvaluationOptions, Model, Tasks, TasksDir, plugin_device
from hear_cli.outputs import check_output_folder
from hear_cli.progress import counting
from hear_cli.run import embed_with_progress
from hear_cli.tables import print_table
from hear_core.errors import ConfigError
from hear_core.networks.extractor import Extractor, offered_taps
from hear_core.networks.taps import FRONTEND_ALIASES, resolve
from hear_core.plugins.configs import embedding_configs
from hear_core.plugins.loading import extractor_skeleton
from hear_core.plugins.names import find_plugin
from hear_eval.downstream.embedded_task import read_embedded_task
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import folder_name
from hear_eval.search import TapCombination, pareto_front, search_taps, write_combinations
from hear_eval.tasks.description import find_tasks

# Taps to try by default, as far as the backbone has them.
PARTS = ("mel_avgs", "all_b", "all_se", "e1", "clf", "logits", "frames")


@with_groups
def search_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Backbone, such as mn04_as, or a module of it.")
    ],
    tasks_dir: TasksDir = Path("tasks"),
    task: Tasks = None,
    tap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Tap, or group of taps, to try; repeat it for several.",
            show_default=", ".join(PARTS),
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for embeddings and results.",
            callback=check_output_folder,
        ),
    ] = Path("search"),
    most: Annotated[int, number("Largest number of combinations to try.", 1, 10**6, "--most")] = 63,
    model: Model = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Use random weights, as a control.")
    ] = False,
    evaluation: EvaluationOptions = EvaluationOptions(),
) -> None:
    """Evaluate combinations of a backbone's taps, and list the best of each size.

    The tasks are embedded once, with all taps. An interrupted search resumes when it is started
    again.
    """
    found = find_plugin(name)
    configs = embedding_configs(found.package.__name__)
    modules = [name for name, c in configs.items() if c.backbone == found.backbone]
    if not modules:
        msg = f"{found.backbone} has no plug-in module; add one in YAML, and search that"
        raise ConfigError(msg)
    chosen = found.name if found.config else modules[0]
    config, module = configs[chosen], f"{found.package.__name__}.{chosen}"
    network = found.record.skeleton()
    offered = set(offered_taps(found.record.frontend(), network))
    aliases = {**FRONTEND_ALIASES, **network.tap_aliases}
    names = tap or [part for part in PARTS if set(aliases.get(part, (part,))) <= offered]
    extractor = extractor_skeleton(found.package.ZOO, config.override(taps=names))
    parts = {part: _columns(extractor, part) for part in names}

    options: dict[str, Any] = {"taps": names, "pretrained": not random_weights}
    weights = str(model.absolute()) if model else ""
    plugin = Plugin(module, weights, options, plugin_device(evaluation.device))
    folder = output / "embeddings" / folder_name(module, options)
    embedded = []
    for path in find_tasks(tasks_dir, task or ["all"]):
        embed_with_progress(plugin, path, folder)
        embedded.append(read_embedded_task(folder / path.name))
    with counting("evaluations") as count:
        candidates = search_taps(
            embedded,
            parts,
            evaluation.settings(),
            max_combinations=most,
            journal=output / "search.jsonl",
            on_progress=lambda state: count(state.done, state.of),
        )
    best = pareto_front(candidates)
    table = output / f"{config.backbone}.csv"
    write_combinations(table, candidates)
    print_table(*_shown(best))
    typer.echo(f"{len(candidates)} combinations of {config.backbone}: {table}")


def _columns(extractor: Extractor, part: str) -> list[int]:
    columns = range(extractor.size)
    taps = resolve([part], extractor.slices, extractor.tap_aliases)
    return [c for tap in taps for c in columns[extractor.slices[tap]]]


def _shown(best: Sequence[TapCombination]) -> tuple[Sequence[str], list[list[str]]]:
    columns = ["taps", "dimensions", "mean", *best[0].scores]
    return columns, [
        [" ".join(c.parts), str(c.dimensions), *(f"{x:.4f}" for x in (c.mean, *c.scores.values()))]
        for c in best
    ]
