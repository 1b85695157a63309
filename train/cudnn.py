"""Whether cuDNN tries its algorithms at the first sight of a shape: decided for a run, and said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from fastpipe.train.config.schema import TrainConfig

__all__ = ["cudnn_benchmark", "cudnn_choice"]


def cudnn_choice(config: TrainConfig) -> tuple[bool, str]:
    """Whether to let cuDNN try, and why.

    A trial takes seconds for each size of image: worth it for one size, not for the 23 of a progressive
    resizing, each of which is met anew on every rank.
    """
    if torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled():
        return False, "deterministic algorithms were asked for"
    if config.progressive_resizing is not None:
        return False, "images change their size"
    return True, "images keep one size"


@contextlib.contextmanager
def cudnn_benchmark(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Inside the block the choice holds on a CUDA device; behind it the process has what it had."""
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = cudnn_choice(config)[0]
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
