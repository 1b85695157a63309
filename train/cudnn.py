"""Whether cuDNN tries its algorithms on each new shape: decided once per run, and reported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from fastpipe.train.config.schema import TrainConfig


def cudnn_choice(config: TrainConfig) -> tuple[bool, str]:
    """Whether to let cuDNN try, and why.

    A trial takes seconds for each image size. This pays off for one size, but not for the 23 sizes of
    progressive resizing, which every rank has to try.
    """
    if torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled():
        return False, "deterministic algorithms were requested"
    if config.progressive_resizing is not None:
        return False, "images change their size"
    return True, "images keep one size"


@contextlib.contextmanager
def cudnn_benchmark(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Inside the block the choice applies to a CUDA device; afterwards the old setting is restored."""
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = cudnn_choice(config)[0]
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
