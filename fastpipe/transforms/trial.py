"""Runs a user's own steps once on a sample image, to see in which form they return it."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from fastpipe.transforms.finalizers import class_with_del
from fastpipe.transforms.read import Form, NotKnown, describe

__all__ = ["form_of", "preserved_rng"]


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the global generators of python, numpy and torch (CPU, and CUDA once in use) on exit."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def form_of(image: Any) -> tuple[Form, str]:
    """The form of a transformed image, and its description in words."""
    if isinstance(image, Image.Image):
        return ("pil" if image.mode == "RGB" else "other"), f"a PIL image of mode {image.mode}"
    if not isinstance(image, torch.Tensor):
        return "other", f"a {type(image).__qualname__}"
    words = f"a {str(image.dtype).removeprefix('torch.')} tensor of shape {tuple(image.shape)}"
    if image.ndim != 3 or image.shape[0] != 3:
        return "other", words
    if image.dtype == torch.uint8:
        return "uint8", words
    return ("float" if image.is_floating_point() else "other"), words


class Trial:
    """Runs copies of the steps in order on a copy of the sample, each at most once; generators are preserved.

    Copies, because a step may hold a generator or a counter of its own.
    """

    def __init__(self, steps: Sequence[Any], sample: Image.Image) -> None:
        ending = class_with_del(*steps)
        if ending is not None:
            raise NotKnown(f"{ending.__qualname__} has a __del__, which would also run for a copy in a trial")
        try:
            self.steps = copy.deepcopy(list(steps))
        except Exception as error:
            raise NotKnown(f"the steps cannot be copied for a trial run ({_words(error)})") from error
        self.image: Any = sample.convert("RGB")
        self.done = 0

    def form_after(self, count: int) -> tuple[Form, str]:
        """The form after the first `count` steps, in one word and as a description."""
        with preserved_rng(), warnings.catch_warnings():
            # The workers raise it again, in the place where the user expects it.
            warnings.simplefilter("ignore")
            for step in self.steps[self.done : count]:
                try:
                    self.image = step(self.image)
                except Exception as error:
                    raise NotKnown(f"{describe(step)} raised {_words(error)} on a sample image") from error
        self.done = max(self.done, count)
        return form_of(self.image)


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
