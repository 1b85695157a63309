"""Data sets whose images are not converted to RGB, and the transforms that convert them first."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import transforms as v1
from torchvision.transforms import v2

_COMPOSE = (v1.Compose, v2.Compose)
_GRAYSCALE = (v1.Grayscale, v2.Grayscale)


def first_step(transform: Any) -> Any:
    """The first step of a pipeline; the transform itself if it is no Compose."""
    while type(transform) in _COMPOSE and transform.transforms and _plain(transform):
        transform = transform.transforms[0]
    return transform


def is_rgb(step: Any) -> bool:
    """Whether it is v2.RGB, which converts an image of any mode; RGB images pass unchanged."""
    return type(step) is v2.RGB and _plain(step)


def repeats_grey(step: Any) -> bool:
    """Whether it makes three equal channels of a grey image, and does nothing else to it."""
    return type(step) in _GRAYSCALE and step.num_output_channels == 3 and _plain(step)


def for_rgb(transform: Any) -> Any:
    """The same for images that are RGB already: v2.RGB() takes the place of a first Grayscale(3)."""
    if repeats_grey(transform):
        return v2.RGB()
    if repeats_grey(first_step(transform)):
        first, *rest = transform.transforms
        return type(transform)([for_rgb(first), *rest])
    return transform


def grey_refusal(name: str, transform: Any) -> str | None:
    """Why grey images need the script's own transform, or None if it makes them RGB first."""
    first = first_step(transform)
    if is_rgb(first) or repeats_grey(first):
        return None
    return (
        f"the images of {name} have one channel, and fastpipe's batches have three: begin the transform with "
        f"transforms.Grayscale(3) or v2.RGB() to have it lifted"
    )


def any_mode_refusal(name: str, transform: Any) -> str | None:
    """Why images of any mode need the script's own transform, or None if it makes them RGB first."""
    if is_rgb(first_step(transform)):
        return None
    return (
        f"{name} does not convert its images to RGB, and some are grey: begin the transform with v2.RGB() to "
        f"have it lifted"
    )


def _plain(step: Any) -> bool:
    return not getattr(step, "_forward_hooks", None) and not getattr(step, "_forward_pre_hooks", None)
