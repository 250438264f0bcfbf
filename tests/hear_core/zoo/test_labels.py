import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.zoo.labels import (
    audioset_labels,
    audioset_mids,
    group_scores,
    read_groups,
    read_thresholds,
    select_classes,
)


def test_audioset():
    assert len(audioset_labels()) == len(set(audioset_labels())) == len(audioset_mids()) == 527
    assert audioset_labels()[0] == "Speech"
    assert audioset_mids()["Music"] == "/m/04rlf"


@given(st.lists(st.sampled_from(audioset_labels()), min_size=1, max_size=5))
def test_every_list_of_labels_is_found_again(labels):
    assert select_classes(",".join(labels).upper(), audioset_labels()) == labels


def test_a_name_other_than_a_label():
    with pytest.raises(ConfigError, match="unknown label 'Speach'; did you mean 'Speech'"):
        select_classes("Music, Speach", audioset_labels())


def test_thresholds(tmp_path):
    file = tmp_path / "thresholds.yaml"
    file.write_text("Speech: 0.5\n/m/04rlf: 1\n'Male speech, man speaking': 0.2\n")
    found = read_thresholds(file, audioset_labels())
    assert found == {"Speech": 0.5, "Music": 1.0, "Male speech, man speaking": 0.2}
    file.write_text("'Speech, Music': 0.5\n")
    assert read_thresholds(file, audioset_labels()) == {"Speech": 0.5, "Music": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Speech: loud", "'Speech' must be a number from 0 to 1, not 'loud'"),
        ("Speech: 2", "not 2"),
        ("Speach: 0.5", "did you mean 'Speech'"),
        ("- Speech", "must map names"),
        ("", "must map names"),
        ("a: [", "is not valid YAML"),
        ("Speech: yes", "must be a number from 0 to 1, not True"),
        ("Speech: 0.1\n/m/09x0r: 0.5", "two thresholds for Speech"),
        ("'Speech, speech': 0.5", "two thresholds for Speech"),
    ],
)
def test_invalid_thresholds(tmp_path, text, message):
    file = tmp_path / "thresholds.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_thresholds(file, audioset_labels())
    assert str(file) in str(error.value)


def test_groups(tmp_path):
    file = tmp_path / "groups.yaml"
    file.write_text("Voice: [Speech, Shout]\nRail: [Train, 'Subway, metro, underground']\n")
    groups = read_groups(file, audioset_labels())
    assert groups["Rail"] == ["Train", "Subway, metro, underground"]
    scores = np.zeros((2, 527))
    scores[1, audioset_labels().index("Shout")] = 0.7
    np.testing.assert_array_equal(
        group_scores(scores, audioset_labels(), groups), [[0, 0], [0.7, 0]]
    )
    file.write_text("Voice: Speech")
    with pytest.raises(ConfigError, match="'Voice' must be a list of labels, not 'Speech'"):
        read_groups(file, audioset_labels())


@pytest.mark.parametrize("text", ["1: [Speech]\n'1': [Music]", "'': [Speech]"])
def test_groups_have_names_of_their_own(tmp_path, text):
    file = tmp_path / "groups.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="cannot be the name of a group"):
        read_groups(file, audioset_labels())
