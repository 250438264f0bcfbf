"""Speed and memory of detectors on an hour of audio: ``python -m benchmarks.detection``.

Every measurement has its own process, so that its peak memory can be measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from hear_core.frontends.mel_banks import kaldi_mel_bank
from hear_sed import ZOO, Detector

SAMPLE_RATE, PIECE_SAMPLES = 16000, 160000
MODES = {
    "original": {},
    "torch, pieces": {"engine": "torch", "pieces": True},
    "torch": {"engine": "torch"},
    "onnx, pieces": {"engine": "onnx", "pieces": True},
    "onnx": {"engine": "onnx"},
}


class OriginalDetector:
    """The inference of EfficientSED: pieces of ten seconds, with one forward pass for each.

    Args:
        name: Name of a detector in the zoo.
    """

    def __init__(self, name: str) -> None:
        self.network = ZOO.random_init(name).eval()
        self.window = torch.hann_window(400, periodic=False)
        self.pre_emphasis = torch.tensor([[[-0.97, 1.0]]])

    @torch.no_grad()
    def frames(self, waveform: Tensor) -> Tensor:
        """Return the probability of every class in every frame, (classes, frames).

        Args:
            waveform: Waveform (samples,) at 16 kHz.
        """
        pieces = []
        for start in range(0, len(waveform), PIECE_SAMPLES):
            piece = waveform[start : start + PIECE_SAMPLES]
            piece = torch.nn.functional.pad(piece, (0, PIECE_SAMPLES - len(piece)))
            pieces.append(self.network(self._log_mel(piece[None]))["logits"][0, :, 0])
        return torch.cat(pieces, dim=1).sigmoid()

    def _log_mel(self, waveform: Tensor) -> Tensor:
        x = torch.nn.functional.conv1d(waveform[:, None], self.pre_emphasis).squeeze(1)
        spectrum = torch.stft(x, 512, 160, 400, self.window, center=True, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        bank = kaldi_mel_bank(128, 512, SAMPLE_RATE, 0.0, 7000.0)
        return ((bank @ power).clamp(min=1e-7).log() + 4.5) / 5


def measure(name: str, mode: str, minutes: float) -> dict[str, float]:
    """Return the duration of detection in seconds, and the peak memory of this process in MB.

    Args:
        name: Name of a detector in the zoo.
        mode: A key of `MODES`.
        minutes: Length of the audio in minutes.
    """
    generator = torch.Generator().manual_seed(0)
    sound = torch.rand(round(minutes * 60 * SAMPLE_RATE), generator=generator) - 0.5
    if mode == "original":
        detector: OriginalDetector | Detector = OriginalDetector(name)
    else:
        detector = Detector(name, pretrained=False, **MODES[mode])
    detector.frames(sound[: 3 * PIECE_SAMPLES])
    start = time.perf_counter()
    detector.frames(sound)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    """Measure every detector in every mode, print a table and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", nargs="*", default=["fmn10", "fmn10+tf:256"], choices=ZOO)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.minutes)))
        return
    lines = [
        "# Detection",
        "",
        f"{arguments.minutes:g} minutes of audio, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}. The original processes pieces of ten seconds, one after the other; "
        "so do we with *pieces*. Otherwise windows overlap by half, which is twice the work. Peak "
        "memory is that of the process, with the audio and the scores of 447 classes.",
        "",
        "| detector | mode | seconds | ratio | times real time | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name in arguments.detectors:
        reference = 0.0
        for mode in MODES:
            command = [sys.executable, "-m", "benchmarks.detection", "--measure", name, mode]
            command += ["--minutes", str(arguments.minutes)]
            result = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
            )
            found = json.loads(result.stdout)
            seconds = found["seconds"]
            reference = reference or seconds
            speed = arguments.minutes * 60 / seconds
            lines.append(
                f"| {name} | {mode} | {seconds:.1f} | {reference / seconds:.1f} | {speed:.0f} "
                f"| {found['megabytes']:.0f} |"
            )
            print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
