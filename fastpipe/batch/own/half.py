"""The host half: what stands in place of the pipeline on a worker's copy of the data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from PIL import Image
from torch.utils._pytree import tree_leaves, tree_map
from torchvision import tv_tensors

from fastpipe.batch.own.generators import GeneratorStates
from fastpipe.batch.own.handed import Handed, Used
from fastpipe.batch.packing import Pixels
from fastpipe.transforms.trial import form_of

# What torchvision's photometric v2 steps pass through unchanged, next to an image.
PASSED = (tv_tensors.BoundingBoxes, tv_tensors.Mask)
_PLAIN = (str, bytes, bool, int, float, complex, type(None))


@dataclass(slots=True)
class Called:
    """What happened at the calls for one sample.

    num: how many. faults: the conditions that failed, in words that follow the sample. token: what was
    returned. alone: nothing but the image was given. image: what was given, in the probe.
    """

    num: int
    faults: list[str]
    token: Handed | None = None
    alone: bool = True
    image: Image.Image | None = None


class HostHalf:
    """Called as the pipeline is called; makes the pixels that go to the device stage, and hands them on.

    render: an RGB image to uint8 pixels [H,W,3]; ValueError if the crop does not fit. opening: the steps at
    the head of the pipeline that make this image. lone: why nothing may be given beside the image; None if
    masks and boxes may, which are returned as they are. It answers to nothing but a call: any other use is a
    failed condition.
    """

    def __init__(
        self,
        render: Callable[[Image.Image], Pixels],
        *,
        opening: Sequence[Callable[[Any], Any]],
        lone: str | None,
    ) -> None:
        self._render = render
        self._opening = opening
        self._lone = lone
        self._called = Called(0, [])

    def __call__(self, *given: Any, **named: Any) -> Any:
        """The token of the image, with what else was given. Raises Used if a condition fails."""
        called = _called_of(self)
        called.num += 1
        if called.num > 1:
            _fail(called, "calls its transform more than once")
        if named or not given:
            _fail(called, "calls its transform with named arguments")
        image, *others = given
        self._check_others(called, others)
        image = self._opened(called, image)
        try:
            pixels = self._render(image)
        except ValueError as error:
            _fail(called, f"gives its transform an image that does not fit: {error}")
        called.token = Handed(pixels, called.faults)
        return (called.token, *tree_map(_same, others)) if others else called.token

    def _check_others(self, called: Called, others: Sequence[Any]) -> None:
        if not others:
            return
        called.alone = False
        if self._lone is not None:
            _fail(called, f"gives its transform more than the image, and {self._lone}")
        for leaf in tree_leaves(others):
            if not _is_passed(leaf):
                _fail(called, f"gives its transform a {type(leaf).__name__} beside the image")

    def _opened(self, called: Called, image: Any) -> Image.Image:
        """The RGB image that was given. Errors of a broken file are the script's own, as in its transform."""
        for step in self._opening:
            image = step(image)
        if not isinstance(image, Image.Image) or image.mode != "RGB":
            _fail(called, f"gives its transform {form_of(image)[1]}, and not an RGB PIL image")
        if not type(image).__module__.startswith("PIL."):
            _fail(called, f"gives its transform a {type(image).__qualname__}, and not a PIL image itself")
        image.load()
        called.image = image
        return image

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # for `isinstance(self.transform, Compose)`
        return _fail(_called_of(self), "looks at the class of its transform")

    def __getattr__(self, name: str) -> Any:
        _fail(_called_of(self), f"reads {name!r} of its transform")


def _same(leaf: Any) -> Any:
    return leaf


def _is_passed(leaf: Any) -> bool:
    plain = type(leaf) in (torch.Tensor, *_PLAIN)
    return plain or isinstance(leaf, PASSED)


def _fail(called: Called, fault: str) -> NoReturn:
    called.faults.append(fault)
    raise Used(f"fastpipe: the data set {fault}")


def _called_of(half: HostHalf) -> Called:
    found: Called = object.__getattribute__(half, "_called")
    return found


def begin(half: HostHalf) -> Called:
    """A new sample begins. Returns the record of the calls for it."""
    called = Called(0, [])
    object.__setattr__(half, "_called", called)
    return called


def run_steps(steps: Sequence[Callable[[Any], Any]], image: Any, watched: GeneratorStates | None) -> Any:
    """The image after the pipeline's own steps, whose draws are none of the data set's."""
    if not steps:
        return image
    if watched is not None:
        watched.pause()
    for step in steps:
        image = step(image)
    if watched is not None:
        watched.resume()
    return image
