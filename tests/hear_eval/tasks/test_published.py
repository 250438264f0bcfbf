from __future__ import annotations

from collections import Counter

import pytest

from hear_core.metrics.registry import METRICS
from hear_eval.report.leaderboard import task_of
from hear_eval.tasks.making import KINDS
from hear_eval.tasks.published import hear_tasks

TASKS = {task.leaderboard: task for task in hear_tasks()}


def test_there_are_nineteen():
    assert len(TASKS) == 19
    categories = Counter(task.category for task in TASKS.values())
    assert categories == {"general": 7, "music": 7, "speech": 5}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_one_that_can_be_run(name):
    task = TASKS[name]
    assert (task.embedding, task.prediction) in {kind[:2] for kind in KINDS.values()}
    assert task.metric in METRICS
    assert task.source.startswith("http")
    for folder in task.folders:
        assert task_of(folder) == name


def test_hours_are_those_of_all_clips():
    assert TASKS["ESC-50"].hours == pytest.approx(2.78, abs=0.01)
    assert TASKS["FSD50K"].hours is None
