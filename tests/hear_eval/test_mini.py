from __future__ import annotations

import csv
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from hear_eval import mini
from hear_eval.mini import make_mini
from hear_eval.tasks.checking import check_task
from hear_eval.tasks.description import TaskError, read_description, read_labels
from hear_eval.tasks.making import make_task
from hear_eval.tasks.recordings import Recording


def sounds(folder, classes, clips=1):
    """A table of clips of half a second, in five folds."""
    random = np.random.default_rng(0)
    rows = [("filename", "fold", "category")]
    for fold in range(1, 6):
        for label in sorted(classes):
            for i in range(clips):
                rows.append((f"{fold}-{label}-{i}.wav", fold, label))
                waveform = 0.2 * random.normal(size=16000)
                soundfile.write(folder / rows[-1][0], waveform, 32000)
    with (folder / "meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "meta.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tasks of a table that has other classes too."""
    folder = tmp_path_factory.mktemp("mini")
    table = sounds(folder, mini.CLASSES | {"siren", "wind"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "SCENES", {"train": 2, "valid": 1, "test": 1})
        return make_mini(folder / "tasks", table)


def test_ten_classes_are_used_in_their_folds(made):
    description = read_description(made[0])
    assert set(description.vocabulary) == mini.CLASSES
    assert len(description.folds) == 5
    for split in description.splits:
        assert len(read_labels(made[0], split, description)) == 10


def test_events_are_mixed_of_the_same_clips(made):
    description = read_description(made[1])
    assert description.embedding_type == "event"
    assert description.metadata["evaluation_params"]["task_specific_param_grid"] == mini.GRID
    assert set(description.vocabulary) == mini.CLASSES
    assert [len(read_labels(made[1], s, description)) for s in ("train", "valid", "test")] == [
        *(2, 1, 1)
    ]


def test_the_tasks_are_complete(made):
    for task in made:
        assert not check_task(task).problems


def test_existing_tasks_are_kept(made):
    table = made[0].parents[1] / "meta.csv"
    before = {path: path.stat().st_mtime_ns for path in made[0].parent.rglob("*.json")}
    assert make_mini(made[0].parent, table) == made
    assert {path: path.stat().st_mtime_ns for path in made[0].parent.rglob("*.json")} == before


@pytest.mark.parametrize("packed", [True, False])
def test_digits_are_used_as_hear_distributes_them(made, tmp_path, packed):
    table = made[0].parents[1] / "meta.csv"
    clips = [
        Recording(table.parent / f"{fold}-{label}-0.wav", f"{fold}{label}.wav", (label,), (), fold)
        for fold in "123"
        for label in ("dog", "rain")
    ]
    digits = make_task(tmp_path / "hear" / "tasks", "spoken_digit-small", clips, "multiclass")
    given = tmp_path / "hear"
    if packed:
        given = tmp_path / "digits.tar.gz"
        with tarfile.open(given, "w:gz") as archive:
            archive.add(digits, "hear/tasks/spoken_digit-small")
    tasks = tmp_path / "tasks"
    shutil.copytree(made[0].parent, tasks)
    *_, task = make_mini(tasks, table, given)
    assert task == tasks / "spoken_digit-small"
    assert not check_task(task).problems
    assert [path.name for path in tasks.iterdir() if path.name.startswith(".")] == []
    assert digits.is_dir()
    assert make_mini(tmp_path / "digits alone", None, given) == [
        tmp_path / "digits alone" / "spoken_digit-small"
    ]


def test_other_sounds_are_refused(tmp_path):
    with pytest.raises(TaskError, match="has 2 of the 10 classes of ESC-10"):
        make_mini(tmp_path / "tasks", sounds(tmp_path, {"siren", "wind"}))
    assert not (tmp_path / "tasks").exists()


def test_digits_that_are_not_one_task_are_refused(made, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="has 0 HEAR tasks"):
        make_mini(made[0].parent, made[0].parents[1] / "meta.csv", tmp_path / "empty")
