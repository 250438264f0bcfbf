from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hear_eval.search as module
from hear_core.errors import ConfigError
from hear_eval.downstream.embedded_task import read_embedded_task
from hear_eval.downstream.evaluation import EvaluationSettings, evaluate
from hear_eval.downstream.results import primary_score
from hear_eval.search import TapCombination, pareto_front, search_taps
from tests.hear_eval.embedding_folders import KFOLD, write_scenes, write_split

OPTIONS = EvaluationSettings("fast", grid_points=1, device="cpu", precision="float32")
GRID = {"hidden_layers": [0], "lr": [0.03], "max_epochs": [30]}
PARTS = {"noise": [0, 1, 2], "half": range(3, 9), "other half": range(9, 15)}


def embeddings_of(folder):
    return {split: np.fromfile(folder / f"{split}.embeddings.npy", np.float32) for split in KFOLD}


def labels_of(task, split):
    indices = task.targets[task.rows[split]].argmax(1).tolist()
    return [[task.description.vocabulary[index]] for index in indices]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three columns of noise, then twelve that determine the class of a clip."""
    folder = write_scenes(tmp_path_factory.mktemp("search") / "scenes", noise=0.5, grid=GRID)
    random, task = np.random.default_rng(1), read_embedded_task(folder)
    for split, known in embeddings_of(folder).items():
        noise = random.normal(size=(40, 3))
        rows = np.concatenate([noise, known.reshape(40, 12)], axis=1)
        write_split(folder, split, rows, labels_of(task, split))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return search_taps([read_embedded_task(folder)], PARTS, OPTIONS)


def test_all_combinations_are_tried(found):
    assert [candidate.parts for candidate in found] == [
        ("noise",),
        ("half",),
        ("other half",),
        ("noise", "half"),
        ("noise", "other half"),
        ("half", "other half"),
        ("noise", "half", "other half"),
    ]
    assert [candidate.dimensions for candidate in found] == [3, 6, 6, 9, 9, 12, 15]


def test_a_combination_scores_as_its_columns_do_by_themselves(folder, found, tmp_path):
    alone = write_scenes(tmp_path / "half", grid=GRID)
    task = read_embedded_task(folder)
    for split, rows in embeddings_of(folder).items():
        write_split(alone, split, rows.reshape(40, 15)[:, 3:9], labels_of(task, split))
    assert found[1].scores == {"sounds": primary_score(evaluate(alone, OPTIONS))}


def test_taps_without_information_score_low(found):
    noise, half, other, *_, everything = (candidate.mean for candidate in found)
    assert noise < 0.6 < min(half, other)
    assert everything > noise + 0.2


def test_an_interrupted_search_is_resumed(folder, found, tmp_path, monkeypatch):
    journal, task = tmp_path / "search.jsonl", read_embedded_task(folder)
    search_taps([task], {"noise": PARTS["noise"], "half": PARTS["half"]}, OPTIONS, journal=journal)
    lines = journal.read_text().split("\n")
    journal.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:20])  # the third is truncated
    evaluated, real = [], module.evaluate_task
    monkeypatch.setattr(module, "evaluate_task", lambda *given: evaluated.append(1) or real(*given))
    assert search_taps([task], PARTS, OPTIONS, journal=journal) == found
    assert len(evaluated) == 5
    assert search_taps([task], PARTS, OPTIONS, journal=journal) == found
    assert len(evaluated) == 5
    other = search_taps([task], PARTS, OPTIONS._replace(seed=1), journal=journal)
    assert len(evaluated) == 12
    assert other != found


def test_too_many_combinations_are_tried_from_the_best_on(folder, monkeypatch):
    worth = {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.3}

    def evaluate_task(task, _):
        mine = [name for i, name in enumerate(worth) if i in task.embeddings.tolist()]
        return type("Found", (), {"scores": {"test": {"test_score": sum(map(worth.get, mine))}}})

    class Task:
        def __init__(self, description, embeddings):
            self.description, self.embeddings = description, embeddings

        def columns(self, index):
            return Task(self.description, np.array(index))

    monkeypatch.setattr(module, "evaluate_task", evaluate_task)
    monkeypatch.setattr(module, "fingerprint", lambda _: "")
    task = Task(read_embedded_task(folder).description, None)
    found = search_taps(
        [task], {name: [i] for i, name in enumerate(worth)}, OPTIONS, max_combinations=9
    )
    assert ["".join(candidate.parts) for candidate in found] == [
        *("a", "b", "c", "d"),
        *("ab", "bc", "bd"),
        *("abd", "bcd"),
    ]
    assert (
        len(
            search_taps(
                [task], {name: [i] for i, name in enumerate(worth)}, OPTIONS, max_combinations=8
            )
        )
        == 7
    )


candidates = st.lists(
    st.builds(
        lambda size, mean: TapCombination(("x",), size, {"task": mean}),
        st.integers(1, 9),
        st.sampled_from([0.1, 0.2, 0.3, 0.4]),
    ),
    min_size=1,
)


@given(candidates)
def test_the_pareto_front_is_exceeded_by_no_combination(tried):
    best = pareto_front(tried)
    sizes, means = [c.dimensions for c in best], [c.mean for c in best]
    assert sizes == sorted(set(sizes))
    assert means == sorted(set(means))
    for candidate in tried:
        assert any(b.dimensions <= candidate.dimensions and b.mean >= candidate.mean for b in best)
    assert all(b in tried for b in best)


def test_what_cannot_be_searched_is_refused(folder, tmp_path):
    task = read_embedded_task(folder)
    with pytest.raises(ConfigError, match="tasks and parts, but there are 1 and 0"):
        search_taps([task], {}, OPTIONS)
    with pytest.raises(ConfigError, match="2 combinations are not enough"):
        search_taps([task], PARTS, OPTIONS, max_combinations=2)
    with pytest.raises(ConfigError, match="several tasks named sounds"):
        search_taps([task, task], PARTS, OPTIONS)
