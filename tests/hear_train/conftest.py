import numpy as np
import pytest
import soundfile
import torch

from hear_train.augment.synthesis import noise, tone

RATE = 32000


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Batches here are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """A folder of six short sounds."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(6):
        rng = np.random.default_rng(number)
        samples = (tone if number % 2 else noise)(rng, RATE, RATE)
        soundfile.write(
            folder / f"{number % 3}-{number}.wav", samples / np.abs(samples).max(), RATE
        )
    return folder


@pytest.fixture(scope="session")
def packed(sounds, tmp_path_factory):
    """The same in one HDF5 file, as PaSST packs AudioSet; the fourth is damaged."""
    import h5py

    path = tmp_path_factory.mktemp("packed") / "clips.hdf"
    files = sorted(sounds.iterdir())
    targets = np.random.default_rng(0).random((len(files), 527)) < 0.02
    with h5py.File(path, "w") as file:
        names = [f"Y{'abcdefghij' + str(number)}.mp3".encode() for number in range(len(files))]
        file["audio_name"] = np.array(names)
        file["target"] = np.packbits(targets, axis=1)
        kind = h5py.vlen_dtype(np.dtype("uint8"))
        rows = file.create_dataset("mp3", (len(files),), dtype=kind)
        for number, sound in enumerate(files):
            samples, rate = soundfile.read(sound)
            mp3 = path.with_suffix(".mp3")
            soundfile.write(mp3, samples, rate, format="MP3")
            content = np.frombuffer(mp3.read_bytes(), np.uint8)
            rows[number] = content[:40] if number == 3 else content
    return path, targets
