import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hear_core.errors import CheckpointError
from hear_core.zoo import checkpoints
from hear_core.zoo.checkpoints import (
    Checkpoint,
    fetch_checkpoint,
    find_checkpoint,
    keep_checksum,
    verify_checkpoint,
)
from hear_core.zoo.download import DownloadError, sha256_of
from hear_core.zoo.reading import read_checkpoint

UNREACHABLE = "http://127.0.0.1:9/released/w.pt"
RELEASED = Checkpoint("w.pt", UNREACHABLE)
STATE = {"weight": torch.randn(20, 30), "count": torch.tensor(3)}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Point every place of the store into a temporary folder."""
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEAR_CHECKPOINTS", raising=False)
    monkeypatch.delenv("HEAR_MIRROR", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "cache").mkdir()
    return tmp_path


def same(found, expected=STATE):
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


def test_looks_into_the_users_folders_before_the_cache(folders, monkeypatch):
    assert find_checkpoint(RELEASED) is None
    (folders / "cache" / "w.pt").touch()
    assert find_checkpoint(RELEASED) == folders / "cache" / "w.pt"
    monkeypatch.setenv("HEAR_CHECKPOINTS", f"/nowhere:{folders / 'mine'}")
    assert find_checkpoint(RELEASED) == folders / "cache" / "w.pt"
    (folders / "mine" / "w.pt").touch()
    assert find_checkpoint(RELEASED) == folders / "mine" / "w.pt"


def test_what_a_package_ships_needs_no_release(folders, monkeypatch):
    """The package is searched after the user's folders and before the cache."""
    monkeypatch.syspath_prepend(folders)
    (folders / "shipping" / "weights").mkdir(parents=True)
    (folders / "shipping" / "__init__.py").touch()
    shipped = folders / "shipping" / "weights" / "w.pt"
    shipped.write_bytes(b"weights")
    (folders / "cache" / "w.pt").write_bytes(b"older weights")
    checkpoint = Checkpoint("w.pt", "", sha256_of(shipped), package="shipping")
    assert fetch_checkpoint(checkpoint) == shipped
    assert find_checkpoint(Checkpoint("w.pt", "")) == folders / "cache" / "w.pt"
    (folders / "mine" / "w.pt").write_bytes(b"weights of the user")
    monkeypatch.setenv("HEAR_CHECKPOINTS", str(folders / "mine"))
    assert find_checkpoint(checkpoint) == folders / "mine" / "w.pt"
    with pytest.raises(CheckpointError, match="not the file that was released"):
        fetch_checkpoint(checkpoint)


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("HEAR_CACHE")
    monkeypatch.setattr(checkpoints.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert checkpoints.cache_folder() == tmp_path / "hear"


def test_offline_the_error_names_the_file_and_its_place(folders):
    with pytest.raises(CheckpointError) as error:
        fetch_checkpoint(RELEASED)
    message = str(error.value)
    assert all(s in message for s in ("w.pt", UNREACHABLE, str(folders / "cache"), "refused"))
    assert "HEAR_CHECKPOINTS" in message


def test_a_known_checksum_is_checked(folders):
    path = folders / "cache" / "w.pt"
    path.write_bytes(b"weights")
    assert fetch_checkpoint(Checkpoint("w.pt", UNREACHABLE, sha256_of(path))) == path
    with pytest.raises(CheckpointError, match=r"not the file that was released as w.pt"):
        fetch_checkpoint(Checkpoint("w.pt", UNREACHABLE, "0" * 64))


def test_an_unknown_checksum_is_kept_once_a_file_has_loaded(folders):
    path, kept = folders / "cache" / "w.pt", folders / "cache" / "w.pt.sha256"
    path.write_bytes(b"weights")
    assert not verify_checkpoint(path, RELEASED)
    assert not kept.exists()
    keep_checksum(path, RELEASED)
    assert kept.read_text() == f"{sha256_of(path)}  w.pt\n"
    assert verify_checkpoint(path, RELEASED)
    path.write_bytes(b"Weights")
    with pytest.raises(CheckpointError, match=r"first used here .* delete .*w.pt.sha256 as well"):
        verify_checkpoint(path, RELEASED)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"no checksum", b"123  w.pt"])
def test_a_damaged_kept_checksum_is_ignored_and_replaced(folders, content, caplog):
    path, kept = folders / "cache" / "w.pt", folders / "cache" / "w.pt.sha256"
    path.write_bytes(b"weights")
    kept.write_bytes(content)
    assert not verify_checkpoint(path, RELEASED)
    assert "w.pt.sha256 does not hold a checksum" in caplog.text
    keep_checksum(path, RELEASED)
    assert verify_checkpoint(path, RELEASED)


def test_a_cache_that_cannot_be_written_to_is_not_an_error(folders, monkeypatch, caplog):
    (folders / "file").touch()
    monkeypatch.setenv("HEAR_CACHE", str(folders / "file" / "cache"))
    monkeypatch.setenv("HEAR_CHECKPOINTS", str(folders / "mine"))
    (folders / "mine" / "w.pt").write_bytes(b"weights")
    path = fetch_checkpoint(RELEASED)
    keep_checksum(path, RELEASED)
    assert "could not be kept" in caplog.text


def test_without_a_home_folder_the_cache_is_a_temporary_one(monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(checkpoints.Path, "expanduser", no_home)
    monkeypatch.delenv("HEAR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert checkpoints.cache_folder().parent == Path(tempfile.gettempdir())
    with pytest.raises(CheckpointError, match=r"no home folder .* in ~/w.pt"):
        checkpoints.expand_user("~/w.pt")


def test_files_other_than_weights_are_not_kept(folders, monkeypatch):
    def arrives(url, target, *, check, **_):
        target.write_bytes(b"<html>Sign in</html>")
        try:
            check(target)
        except CheckpointError as error:
            target.unlink()
            raise DownloadError(str(error)) from error

    monkeypatch.setattr(checkpoints, "download", arrives)
    with pytest.raises(CheckpointError, match=r"could not be downloaded: .*cannot be read as weig"):
        fetch_checkpoint(RELEASED)
    assert list((folders / "cache").iterdir()) == []


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}])
def test_reads_what_torch_saves(folders, wrap):
    torch.save(wrap(STATE), folders / "w.pt")
    assert same(read_checkpoint(folders / "w.pt"))


def test_reads_the_old_format_of_torch(folders):
    torch.save(STATE, folders / "w.pth", _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(folders / "w.pth"))


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_reads_weights_beside_arrays(folders, core):
    """Read a file like those of PANNs, which numpy 1 wrote."""
    sampler = {"indexes": [np.arange(9), np.arange(3, dtype="i4")], "best": np.float64(0.4)}
    content = {"iteration": 7, "model": STATE, "sampler": sampler}
    torch.save(content, folders / "w.pth", _use_new_zipfile_serialization=False)
    written = (folders / "w.pth").read_bytes()
    own = np.empty(0).__reduce__()[0].__module__.removesuffix(".multiarray").encode()
    assert own in written
    (folders / "w.pth").write_bytes(written.replace(own, core))
    assert same(read_checkpoint(folders / "w.pth"))


def test_reads_safetensors(folders):
    save_file(STATE, folders / "w.safetensors")
    assert same(read_checkpoint(folders / "w.safetensors"))


def test_reads_as_float32(folders):
    torch.save({"weight": STATE["weight"].half(), "count": STATE["count"]}, folders / "w.pt")
    state = read_checkpoint(folders / "w.pt")
    assert state["weight"].dtype == torch.float32
    assert state["count"].dtype == torch.int64


def test_no_file(folders):
    with pytest.raises(CheckpointError, match=r"gone.pt does not exist"):
        read_checkpoint(folders / "gone.pt")


@pytest.mark.parametrize("keep", [0, 1, 100, 1500, -1])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_file(folders, keep, suffix):
    path = folders / f"w{suffix}"
    torch.save(STATE, path) if suffix == ".pt" else save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=rf"w{suffix} \(\d+ bytes\) cannot be read .*trunc"):
        read_checkpoint(path)


def test_an_altered_file(folders):
    path = folders / "w.pt"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    position = content.find(STATE["weight"].numpy().tobytes()[:64])
    content[position + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w.pt is damaged: the checksum of its record"):
        read_checkpoint(path)


class Malice:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code from the file was run",))


def test_code_in_a_file_is_not_run(folders):
    torch.save({"weight": Malice()}, folders / "w.pt")
    with pytest.raises(CheckpointError, match=r"something else than tensors and was not loaded"):
        read_checkpoint(folders / "w.pt")
    torch.save({"weight": np.array([Malice()])}, folders / "u.pt")
    with pytest.raises(CheckpointError):
        read_checkpoint(folders / "u.pt")
    (folders / "v.pt").write_bytes(pickle.dumps({"weight": Malice()}, protocol=2))
    with pytest.raises(CheckpointError):
        read_checkpoint(folders / "v.pt")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_no_state_dict(folders, content):
    torch.save(content, folders / "w.pt")
    with pytest.raises(CheckpointError, match=r"does not hold a state dict"):
        read_checkpoint(folders / "w.pt")


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("weight", torch.tensor([1.0, torch.nan]), "weight holds NaN or infinite values"),
        ("weight", torch.tensor([torch.inf]), "weight holds NaN or infinite values"),
        ("weight", torch.tensor([1e300], dtype=torch.float64), "weight holds NaN or infinite"),
        ("bn.running_var", torch.tensor([1.0, -2.0]), "bn.running_var holds a negative variance"),
        ("weight", torch.zeros(2, dtype=torch.complex64), "weight has the type torch.complex64"),
        ("weight", torch.eye(3).to_sparse(), "weight is stored as sparse_coo"),
        (7, torch.zeros(2), "7 is a Tensor"),
        ("weight", "text", "'weight' is a str"),
    ],
)
def test_weights_that_no_network_can_compute_with(folders, key, tensor, message):
    torch.save({**STATE, key: tensor}, folders / "w.pt")
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(folders / "w.pt")
    assert str(folders / "w.pt") in str(error.value)


def test_a_safetensors_file_is_known_by_its_content(folders):
    save_file(STATE, folders / "w.pt")
    assert same(read_checkpoint(folders / "w.pt"))
