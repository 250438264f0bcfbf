from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.audio.files import AudioFile, find_audio_files, shard
from hear_core.errors import ConfigError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_searched_to_the_bottom(tmp_path):
    touch(tmp_path, "b.WAV", "a/x.flac", "a/b/y.ogg", "a/notes.txt", "._b.WAV", "LICENCE")
    found = find_audio_files([tmp_path])
    assert [source.name for source in found.sources] == ["a/b/y.ogg", "a/x.flac", "b.WAV"]
    assert all(source.path == tmp_path / source.name for source in found.sources)
    assert found.ignored == {".txt": 1, ".wav": 1, "": 1}


def test_files_are_taken_however_they_end(tmp_path):
    touch(tmp_path, "sound.bin")
    assert find_audio_files([tmp_path / "sound.bin"]).sources == [
        AudioFile(tmp_path / "sound.bin", "sound.bin")
    ]


def test_the_output_folder_is_not_searched(tmp_path):
    touch(tmp_path, "a.wav", "out/b.wav")
    assert [s.name for s in find_audio_files([tmp_path], except_in=tmp_path / "out").sources] == [
        "a.wav"
    ]


def test_the_same_file_twice_is_one(tmp_path):
    touch(tmp_path, "a.wav")
    assert len(find_audio_files([tmp_path, tmp_path / "a.wav"]).sources) == 1


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "one/a.wav", "two/a.wav")
    with pytest.raises(ConfigError, match=r"would both be called a.wav: give the folder"):
        find_audio_files([tmp_path / "one", tmp_path / "two"])


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone does not exist"):
        find_audio_files([tmp_path / "gone"])


names = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=50)


@given(names, st.integers(1, 9))
def test_shards_are_disjoint_and_complete(names, of):
    sources = [AudioFile(Path(name), name) for name in names]
    shards = [shard(sources, number, of) for number in range(1, of + 1)]
    assert sorted(s.name for part in shards for s in part) == sorted(names)


@given(names, names, st.integers(1, 9))
def test_more_files_move_no_others(names, more, of):
    few = {AudioFile(Path(name), name) for name in names}
    many = few | {AudioFile(Path(name), name) for name in more}
    assert set(shard(few, 1, of)) == set(shard(many, 1, of)) & few


def test_shards_are_of_about_the_same_size():
    sources = [AudioFile(Path(str(i)), str(i)) for i in range(8000)]
    sizes = [len(shard(sources, number, 8)) for number in range(1, 9)]
    assert min(sizes) > 900


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "real/dog/a.wav", "data/cat/b.wav")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "data" / "wolf").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "data" / "cat" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "cat" / "self").symlink_to(tmp_path / "data" / "cat")
    (tmp_path / "real" / "dog" / "up").symlink_to(tmp_path)
    found = find_audio_files([tmp_path / "data"]).sources
    assert [s.name for s in found] == ["cat/b.wav", "dog/a.wav", "wolf/a.wav"]


def test_a_folder_given_twice_counts_once(tmp_path):
    touch(tmp_path, "a/b.wav")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    given = [tmp_path / "a", tmp_path / "a" / ".." / "a", tmp_path / "link"]
    assert [s.name for s in find_audio_files(given).sources] == ["b.wav"]


def test_names_that_differ_in_case_only_are_both_found(tmp_path, caplog):
    touch(tmp_path, "a.wav", "b.WAV")
    assert len(find_audio_files([tmp_path]).sources) == 2
    assert not caplog.text
    touch(tmp_path, "A.wav")
    if len(list(tmp_path.iterdir())) == 3:
        assert [s.name for s in find_audio_files([tmp_path]).sources] == ["A.wav", "a.wav", "b.WAV"]
        assert "differ in case only" in caplog.text
