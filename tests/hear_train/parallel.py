"""One step of a distillation in a process among several: ``python -m`` this under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from hear_mn import ZOO
from hear_train.clips import Clips, find
from hear_train.lessons import Blur, Lessons, Listening
from hear_train.losses import Distillation, Weights
from hear_train.mixing import Mixer, Mixing
from hear_train.teachers import Teacher
from hear_train.trainer import Plan, Trainer

RATE, SOUNDS = 32000, 8


def gradients(sounds, folder):
    """Return the gradients after a step on eight sounds, however many processes share them.

    Batch norms stand still: they see the share of their process only.
    """
    accelerator = Accelerator(cpu=True)
    student = ZOO.random_init("mn01_as")
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    mixer = Mixer(Clips(find([sounds], [], ()), RATE), Mixing(seconds=0.5), 0)
    processes = accelerator.num_processes
    lessons = Lessons(
        mixer, SOUNDS // processes, 527, rank=accelerator.process_index, processes=processes
    )
    teacher = Teacher(ZOO, "mn01_starter")
    frontend = ZOO["mn01_as"].frontend()
    trainer = Trainer(
        Distillation(student, Weights(logits=0.01)),
        lessons,
        Plan(epochs=1, steps=1, clip=0, seed=3),
        folder,
        accelerator,
        listening=Listening(frontend, teacher, Blur(edges=False), 0),
    )
    trainer.run()
    return {name: value.grad.clone() for name, value in student.named_parameters()}, accelerator


if __name__ == "__main__":
    torch.set_num_threads(1)
    found, accelerator = gradients(Path(sys.argv[1]), Path(sys.argv[2]))
    if accelerator.is_main_process:
        torch.save((accelerator.num_processes, found), sys.argv[3])
