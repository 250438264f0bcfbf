"""Where clips come from, and what happens to those that are corrupt."""

import numpy as np
import pytest
import soundfile

from hear_core.errors import AudioError, ConfigError
from hear_core.labels import audioset_labels
from hear_train.clips import Clips, find
from tests.hear_train.conftest import RATE

LABELS = audioset_labels()


def names(clips):
    return [clip.name for clip in clips]


def test_a_folder_without_what_is_kept_out(sounds, tmp_path):
    (tmp_path / "notes.txt").write_text("no audio")
    found = find([sounds, tmp_path, sounds / "0-0.wav"], ["2-*"], LABELS)
    assert names(found) == ["0-0.wav", "0-3.wav", "1-1.wav", "1-4.wav", "0-0.wav"]
    assert all(clip.labels is None for clip in found)


def test_a_table_with_labels(sounds):
    table = sounds / "table.csv"
    rows = ["filename,labels", "0-0.wav,Speech; Male speech, man speaking", "1-1.wav,"]
    table.write_text("\n".join(f'{row.split(",", 1)[0]},"{row.split(",", 1)[1]}"' for row in rows))
    table.write_text(table.read_text().replace('"labels"', "labels"))
    first, second = find([table], [], LABELS)
    table.unlink()
    there = {LABELS[i] for i in np.flatnonzero(first.labels)}
    assert there == {"Speech", "Male speech, man speaking"}
    assert second.labels is None
    expected = soundfile.read(sounds / "0-0.wav", dtype="float32")[0]
    np.testing.assert_array_equal(first.read(RATE), expected)


def test_the_layout_of_passt(packed, sounds):
    path, targets = packed
    found = find([path], [], LABELS)
    np.testing.assert_array_equal([clip.labels for clip in found], targets)
    clips = Clips(found, RATE)
    original = soundfile.read(sorted(sounds.glob("*.wav"))[1])[0]
    heard = clips.read(1)
    assert len(heard) == len(original)
    # An mp3 of noise is not the same, but its slow course is.
    assert np.corrcoef(heard**2, original**2)[0, 1] > 0.5
    with pytest.raises(AudioError, match=r"Yabcdefghij3.mp3 in .* cannot be read"):
        clips.read(3)


def test_corrupt_clips_are_dropped_and_named(packed):
    clips = Clips(find([packed[0]], [], LABELS), RATE)
    before = clips.read(4)
    dropped = clips.keep()
    assert list(dropped) == ["Yabcdefghij3.mp3"]
    assert len(clips) == 5
    assert clips[3].name == "Yabcdefghij4.mp3"
    np.testing.assert_allclose(clips.read(3), before.clip(-1, 1), atol=1 / 32767)


def test_inputs_that_are_nothing(tmp_path):
    with pytest.raises(ConfigError, match="there is no file or folder"):
        find([tmp_path / "gone"], [], LABELS)
    (tmp_path / "a.csv").write_text("name\nx")
    with pytest.raises(ConfigError, match="the column filename"):
        find([tmp_path / "a.csv"], [], LABELS)
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(ConfigError, match="layout of PaSST"):
        find([tmp_path / "a.h5"], [], LABELS)
    with pytest.raises(ConfigError, match="no clip to train on"):
        Clips(find([tmp_path], [], LABELS), RATE)
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(ConfigError, match="none of 1 clips can be read"):
        Clips(find([tmp_path], [], LABELS), RATE).keep()
