"""Benchmark of a plug-in on a task: resampling, embedding and evaluation in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_eval.downstream.evaluation import (
    DEFAULT,
    EvaluationProgress,
    EvaluationSettings,
    differences,
    evaluate,
)
from hear_eval.downstream.results import primary_score
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import TaskProgress, embed_task
from hear_eval.tasks.description import TaskError
from hear_eval.tasks.resampling import resample_task


class BenchmarkProgress(NamedTuple):
    """The progress of a benchmark.

    Args:
        stage: ``resample``, ``embed`` or ``evaluate``.
        done: Number of clips or predictors that are done.
        of: Number of all of them.
        doing: Description of what is done now; may be empty.
    """

    stage: str
    done: float
    of: int
    doing: str = ""


def score_plugin(
    plugin: Plugin,
    task: Path,
    embeddings: Path,
    settings: EvaluationSettings = DEFAULT,
    on_progress: Callable[[BenchmarkProgress], object] = lambda _: None,
) -> float:
    """Score a plug-in on a task; what was done before with the same settings is not done again.

    Args:
        plugin: Plug-in to score.
        task: Folder of the task. Audio at the sample rate of the plug-in is added to it.
        embeddings: Folder of the embeddings of the plug-in, with a folder per task.
        settings: Settings of the evaluation. A folder that was evaluated with other settings
            is evaluated again.
        on_progress: Called with the progress.

    Returns:
        The main metric of the task, as the mean over its folds.

    Raises:
        HearError: The task cannot be embedded or evaluated; see
            `hear_eval.embeddings.tasks.run_task` and `hear_eval.downstream.evaluation.evaluate`.
    """

    def on_resampling(done: int, of: int) -> None:
        on_progress(BenchmarkProgress("resample", done, of))

    clips = 0

    def on_embedding(step: TaskProgress) -> None:
        nonlocal clips
        clips += step.clips
        on_progress(BenchmarkProgress("embed", clips, clips + step.left, step.split))

    def on_evaluation(state: EvaluationProgress) -> None:
        on_progress(BenchmarkProgress("evaluate", state.done, state.of, state.doing))

    failures = resample_task(task, plugin.sample_rate, on_resampling).failures
    folder = embeddings / task.name
    try:
        embed_task(plugin, task, folder, on_progress=on_embedding)
    except HearError as error:
        if not failures:
            raise
        reasons = "; ".join(failures.values())
        msg = f"{error}; {len(failures)} clips could not be resampled: {reasons}"
        raise TaskError(msg) from error
    again = bool(differences(folder, settings))
    scores = evaluate(folder, settings, again=again, on_progress=on_evaluation)
    return primary_score(scores)
