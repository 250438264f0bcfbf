"""Two processes on a CPU do what one does with a batch of twice the size."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from tests.hear_train.parallel import gradients


def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(sounds, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    script = ["-m", "tests.hear_train.parallel", sounds, tmp_path / "two", tmp_path / "found.pt"]
    result = subprocess.run(
        [sys.executable, "-m", *map(str, launch + script)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    processes, found = torch.load(tmp_path / "found.pt")
    assert processes == 2
    expected, _ = gradients(sounds, tmp_path / "one")
    assert found.keys() == expected.keys()
    assert max(float(value.abs().max()) for value in expected.values()) > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-3, msg=name)
