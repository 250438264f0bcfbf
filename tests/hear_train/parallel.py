"""One step of a distillation in a process among several: ``python -m`` this under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from hear_mn import ZOO
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.data.clips import Clips, find_clips
from hear_train.data.mixtures import MixtureConfig, MixtureDrawer
from hear_train.data.sources import DrawnBatches
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.distillation import Distillation, DistillationWeights
from hear_train.objectives.teachers import NetworkTeacher
from hear_train.preprocessing import Preprocessing

RATE, SOUNDS = 32000, 8


def gradients(sounds, folder):
    """Return the gradients after a step on eight sounds, however many processes share them.

    Batch norms are frozen, as they would see the share of their process only.
    """
    accelerator = Accelerator(cpu=True)
    student = ZOO.random_init("mn01_as")
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    clips = Clips(find_clips([sounds], [], ()), RATE)
    drawer = MixtureDrawer(clips, MixtureConfig(seconds=0.5), 0)
    processes = accelerator.num_processes
    batches = DrawnBatches(
        drawer, SOUNDS // processes, 527, rank=accelerator.process_index, processes=processes
    )
    teacher = NetworkTeacher(ZOO, ("mn01_starter",))
    frontend = ZOO["mn01_as"].frontend()
    trainer = Trainer(
        Distillation(student, DistillationWeights(logits=0.01)),
        batches,
        TrainerConfig(epochs=1, steps_per_epoch=1, grad_clip=0, seed=3),
        folder,
        accelerator,
        preprocess=Preprocessing(frontend, SpectrogramAugmentation(mel_edges=False), 0, teacher),
    )
    trainer.run()
    return {name: value.grad.clone() for name, value in student.named_parameters()}, accelerator


if __name__ == "__main__":
    torch.set_num_threads(1)
    found, accelerator = gradients(Path(sys.argv[1]), Path(sys.argv[2]))
    if accelerator.is_main_process:
        torch.save((accelerator.num_processes, found), sys.argv[3])
