"""Speed of training, compared with the loop of EfficientAT on the same clips.

Both train a network with batches of 32 clips of ten seconds, read from an HDF5 file of mp3s: the
loop of EfficientAT's ``ex_audioset.py``, written plainly, and the recipe ``audioset`` of this
project. They take turns, each in a process of its own. ``python -m benchmarks.training`` also
measures the parts of a step, and the start of a run on 100,000 clips, and writes training.md.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice, repeat
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.original import OriginalLogMel
from hear_core.frontends.mel_banks import kaldi_mel_bank
from hear_mn import ZOO
from hear_train.data.clips import packed_clips
from hear_train.data.hdf5 import PackedRow, as_mp3, write_packed
from hear_train.recipes import load_recipe
from hear_train.runs import build

BACKBONE, BATCH, SECONDS, RATE, WORKERS = "mn10_as", 32, 10, 32000, 2
CLIPS, CLASSES, START_UP_CLIPS = 128, 527, 100_000
LOOPS, PARTS = ("original", "ours"), ("decode", "log-mel", "forward and backward")
RESULTS = Path(__file__).with_name("training.md")


class OriginalClips(Dataset[tuple[np.ndarray, np.ndarray]]):
    """The data set of the original: mp3s of an HDF5 file that is opened in every worker.

    Args:
        path: HDF5 file in the layout of PaSST.
    """

    def __init__(self, path: str) -> None:
        self.path, self.file = path, None

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        import h5py

        if self.file is None:
            self.file = h5py.File(self.path, "r")
        waveform = _decode(self.file["mp3"][index].tobytes())
        length = SECONDS * RATE
        waveform = np.pad(waveform[:length], (0, max(0, length - len(waveform))))
        target = np.unpackbits(self.file["target"][index], axis=-1, count=CLASSES)
        return waveform.reshape(1, -1), target.astype(np.float32)


def _decode(content: bytes) -> np.ndarray:
    """Decode an mp3 by PyAV, frame by frame, as the original does."""
    import av

    container = av.open(io.BytesIO(content))
    stream = next(stream for stream in container.streams if stream.type == "audio")
    frames = [
        frame.to_ndarray().reshape(-1)
        for packet in container.demux(stream)
        for frame in packet.decode()
    ]
    samples = np.concatenate(frames)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / 2 ** (8 * samples.itemsize - 1)
    return samples


class TrainingLogMel(OriginalLogMel):
    """The front-end of the original in training mode, with edges that are drawn in every call."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the log-mel (batch, 128, frames) of waveforms (batch, samples) at 32 kHz."""
        x = F.conv1d(waveform.unsqueeze(1), self.pre_emphasis).squeeze(1)
        spectrum = torch.stft(
            x, 1024, 320, win_length=800, window=self.window, center=True, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        low, down = (int(torch.randint(most, (1,))) for most in (10, 2000))
        bank = kaldi_mel_bank(128, 1024, RATE, low, 16000.0 - down)
        return ((bank @ power + 1e-5).log() + 4.5) / 5.0


def original_steps(path: str, steps: int, workers: int) -> Iterator[None]:
    """Train as the original does, and yield after every step."""
    network: nn.Module = ZOO.random_init(BACKBONE).train()
    front_end = TrainingLogMel()
    optimiser = torch.optim.Adam(network.parameters(), lr=8e-4, weight_decay=0.0)
    loader = DataLoader(OriginalClips(path), BATCH, shuffle=True, num_workers=workers)
    batches = chain.from_iterable(repeat(loader))
    for waveform, target in islice(batches, steps):
        log_mel = front_end(waveform.reshape(-1, waveform.shape[2]))
        partner = torch.randperm(BATCH)
        share = torch.from_numpy(np.random.beta(0.3, 0.3, BATCH).astype(np.float32))  # noqa: NPY002
        share = torch.maximum(share, 1 - share)[:, None]
        mel_share = share[:, :, None]
        log_mel = log_mel * mel_share + log_mel[partner] * (1 - mel_share)
        mixed = target * share + target[partner] * (1 - share)
        logits = network(log_mel)["logits"]
        loss = F.binary_cross_entropy_with_logits(logits, mixed, reduction="none").mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        float(loss.detach())
        yield


def our_steps(path: str, steps: int, workers: int, done: Callable[[], None]) -> None:
    """Train by the recipe ``audioset``."""
    from accelerate import Accelerator

    values = {
        "model.backbone": BACKBONE,
        "model.pretrained": False,
        "data.batch_size": BATCH,
        "trainer.epochs": 1,
        "trainer.steps_per_epoch": steps,
    }
    recipe = load_recipe("audioset", [f"{key}={value}" for key, value in values.items()])
    with tempfile.TemporaryDirectory() as folder:
        run = build(recipe, [Path(path)], Path(folder), Accelerator(cpu=True), workers=workers)
        with suppress(StopIteration):  # before the validation
            run.run(lambda step, terms: done())


def measure(which: str, path: str, steps: int, workers: int) -> dict[str, float]:
    """Return the median seconds of a step after the first one, of the clock and of the processor.

    The latter are those of this process, without its workers.
    """
    times: list[tuple[float, float]] = []

    def done() -> None:
        times.append((time.perf_counter(), time.process_time()))
        if len(times) == steps:
            raise StopIteration

    if which == "ours":
        our_steps(path, steps, workers, done)
    else:
        with suppress(StopIteration):
            for _ in original_steps(path, steps, workers):
                done()
    clock, processor = np.median(np.diff(times, axis=0), axis=0)
    return {"clock": float(clock), "processor": float(processor)}


def make_clips(path: Path) -> None:
    """Write an HDF5 file of mp3s of noise whose level varies."""
    rng = np.random.default_rng(0)

    def rows() -> Iterator[PackedRow]:
        contents = []
        for _ in range(8):
            level = np.repeat(rng.uniform(0.01, 0.3, SECONDS * 10), RATE // 10)
            contents.append(
                as_mp3((level * rng.standard_normal(SECONDS * RATE)).astype("f4"), RATE)
            )
        for number in range(CLIPS):
            bits = np.packbits(rng.random(CLASSES) < 0.004)
            yield PackedRow(f"Y{number:011}.mp3", contents[number % len(contents)], bits)

    write_packed(path, rows(), CLIPS, ZOO[BACKBONE].labels)


def parts(path: str) -> dict[str, float]:
    """Return the seconds that the parts of a step take, in this process and alone."""
    data, front_end = OriginalClips(path), TrainingLogMel()
    record = ZOO[BACKBONE]
    ours = record.frontend()
    batch = [data[index] for index in range(BATCH)]
    waveform = torch.from_numpy(np.concatenate([samples for samples, _ in batch]))
    found = {"decode, original": _timed(lambda: [data[index] for index in range(BATCH)])}
    clips = packed_clips(Path(path), CLASSES)
    found["decode, ours"] = _timed(lambda: [clips[index].read(RATE) for index in range(BATCH)])
    with torch.no_grad():
        found["log-mel, original"] = _timed(lambda: front_end(waveform))
        found["log-mel, ours"] = _timed(lambda: ours(waveform, edges=(3.0, 15500.0)))
        log_mel = ours(waveform)
    for name, layout in (("original", torch.contiguous_format), ("ours", torch.channels_last)):
        network = ZOO.random_init(BACKBONE).to(memory_format=layout).train()

        def step(network: nn.Module = network) -> None:
            network.zero_grad()
            network(log_mel)["logits"].square().mean().backward()

        found[f"forward and backward, {name}"] = _timed(step)
    return found


def _timed(call: Callable[[], object], times: int = 3) -> float:
    call()
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def start_up(clips: int) -> dict[str, float]:
    """Return the seconds and the peak memory until a run on many clips is ready to train."""
    from accelerate import Accelerator

    labels, rng = ZOO[BACKBONE].labels, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.hdf"
        rows = (
            PackedRow(f"Y{n:011}.mp3", b"", np.packbits(rng.random(CLASSES) < 0.004))
            for n in range(clips)
        )
        write_packed(path, rows, clips, labels)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        recipe = load_recipe("audioset", ["model.backbone=mn01_as", "model.pretrained=false"])
        run = build(recipe, [path], Path(folder) / "run", Accelerator(cpu=True))
        run.trainer._source.drawer.sampler[0]  # the order of the first epoch
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak": peak / 1024, "before": before / 1024}


def _run(*arguments: str) -> dict[str, float]:
    """Run a measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--measure", *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def report(rounds: int, steps: int) -> str:
    """Measure everything, and return a page of it."""
    loops: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "train_mp3.hdf")
        make_clips(Path(path))
        for _ in range(rounds):
            for workers in (WORKERS, 0):
                for which in ("original", "ours"):
                    for key, value in _run(which, path, str(steps), str(workers)).items():
                        loops[which, workers][key].append(value)
        pieces = _run("parts", path)
    begin = _run("start-up")
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}, without a GPU"
    lines = [
        "# Training",
        "",
        f"{BACKBONE}, batches of {BATCH} clips of {SECONDS} s from an HDF5 file of mp3s, {machine}."
        f" The loops take turns; the median of {rounds} turns of {steps} steps counts. If other "
        "processes share the machine, compare the seconds of the processor.",
        "",
        "| loop | workers | clips per second | ratio | processor seconds per step | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for workers in (WORKERS, 0):
        rows = {w: {k: median(v) for k, v in loops[w, workers].items()} for w in LOOPS}
        for which, row in rows.items():
            ratios = [rows["original"][key] / row[key] for key in ("clock", "processor")]
            spent = f"{row['processor']:.1f} | {ratios[1]:.2f}" if not workers else "|"
            lines.append(
                f"| {which} | {workers} | {BATCH / row['clock']:.2f} | {ratios[0]:.2f} | {spent} |"
            )
    lines += ["", "| part of a step | original, s | ours, s |", "|---|---|---|"]
    for part in PARTS:
        cells = " | ".join(f"{pieces[f'{part}, {which}']:.2f}" for which in LOOPS)
        lines.append(f"| {part} | {cells} |")
    share = pieces["forward and backward, ours"] / sum(pieces[f"{p}, ours"] for p in PARTS)
    lines += [
        "",
        f"The network bounds the loop: forward and backward pass take {share:.0%} of a step. They "
        "are faster here since maps are kept in the layout channels_last.",
        "",
        f"A run on {START_UP_CLIPS} clips is ready to train after {begin['seconds']:.1f} s, with a "
        f"peak memory of {begin['peak']:.0f} MB ({begin['before']:.0f} MB before).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print a page and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="Number of turns of every loop.")
    parser.add_argument("--steps", type=int, default=4, help="Number of steps of a turn.")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        which, *rest = arguments.measure
        if which == "parts":
            found = parts(*rest)
        elif which == "start-up":
            found = start_up(START_UP_CLIPS)
        else:
            path, steps, workers = rest
            found = measure(which, path, int(steps), int(workers))
        print(json.dumps(found))
        return
    text = report(arguments.rounds, arguments.steps)
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
