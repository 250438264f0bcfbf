"""The HEAR benchmark: tasks, embeddings, downstream evaluation, and reports.

The folders, from the bottom up: `tasks` (HEAR tasks on disk), `embeddings` (of tasks and of files,
by any HEAR plug-in), `downstream` (evaluation by the protocol of heareval), `report`. Above them
are `benchmark` (all of these in one call), `mini` (three small tasks) and `search` (the best taps).

The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hear_eval.benchmark import score_plugin
    from hear_eval.downstream.evaluation import EvaluationSettings, evaluate, evaluate_task
    from hear_eval.embeddings.files import embed_files
    from hear_eval.embeddings.plugin import Plugin
    from hear_eval.embeddings.tasks import embed_task, run_task
    from hear_eval.embeddings.units import EmbeddingOptions
    from hear_eval.mini import make_mini
    from hear_eval.report.results import read_results
    from hear_eval.report.writing import write_report
    from hear_eval.search import search_taps
    from hear_eval.tasks.checking import check_task
    from hear_eval.tasks.description import find_tasks, read_description
    from hear_eval.tasks.making import make_task
    from hear_eval.tasks.mixing import mix_event_task
    from hear_eval.tasks.resampling import resample_task

__all__ = [
    "EmbeddingOptions",
    "EvaluationSettings",
    "Plugin",
    "check_task",
    "embed_files",
    "embed_task",
    "evaluate",
    "evaluate_task",
    "find_tasks",
    "make_mini",
    "make_task",
    "mix_event_task",
    "read_description",
    "read_results",
    "resample_task",
    "run_task",
    "score_plugin",
    "search_taps",
    "write_report",
]

_MODULES = {
    "EmbeddingOptions": "embeddings.units",
    "EvaluationSettings": "downstream.evaluation",
    "Plugin": "embeddings.plugin",
    "check_task": "tasks.checking",
    "embed_files": "embeddings.files",
    "embed_task": "embeddings.tasks",
    "evaluate": "downstream.evaluation",
    "evaluate_task": "downstream.evaluation",
    "find_tasks": "tasks.description",
    "make_mini": "mini",
    "make_task": "tasks.making",
    "mix_event_task": "tasks.mixing",
    "read_description": "tasks.description",
    "read_results": "report.results",
    "resample_task": "tasks.resampling",
    "run_task": "embeddings.tasks",
    "score_plugin": "benchmark",
    "search_taps": "search",
    "write_report": "report.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
