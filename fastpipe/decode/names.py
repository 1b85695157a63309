"""A decode step in words: the crop and the resize of one image, with the box that its numbers give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastpipe.decode.boxes import Box, draw_box, short_side
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop
from fastpipe.types import Applied, Size, Spec

__all__ = ["applied_by_decoder"]


def applied_by_decoder(spec: Spec | None, uniforms: Sequence[float], size: Size) -> Iterator[Applied]:
    """Crop and resize in their order. size: (height, width) of the decoded image, in pixels."""
    if isinstance(spec, RandomResizedCrop):
        box = draw_box(spec, uniforms, *size)
        yield _crop(box)
        yield from _resize((box.height, box.width), spec.size, spec.interpolation)
    elif isinstance(spec, ResizeCrop):
        if spec.resize is not None:
            resized = short_side(*size, spec.resize) if isinstance(spec.resize, int) else spec.resize
            yield from _resize(size, resized, spec.interpolation)
            size = resized
        if spec.crop is not None:
            yield _crop(draw_box(spec, uniforms, *size))


def _crop(box: Box) -> Applied:
    settings = {"top": box.top, "left": box.left, "height": box.height, "width": box.width}
    words = f"crop {box.height} x {box.width} at {box.top}, {box.left}"
    return Applied(name="crop", settings=settings, words=words)


def _resize(size: Size, to: Size, interpolation: str) -> Iterator[Applied]:
    if size != to:
        settings = {"height": to[0], "width": to[1], "interpolation": interpolation}
        yield Applied(name="resize", settings=settings, words=f"resize to {to[0]} x {to[1]}, {interpolation}")
