"""Drawn parameters in words: what the device stage does to one image of a batch, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from fastpipe.device.draws.batch import MixParams
from fastpipe.device.draws.draw import Params
from fastpipe.device.draws.params import OpParams
from fastpipe.types import Applied, Request, Size

__all__ = ["applied_to"]


def applied_to(params: Params, request: Request, row: int, size: Size) -> Iterator[Applied]:
    """The operations on the image at `row`, in their order. size: (height, width) before them, in pixels."""
    if params.flip is not None and params.flip[row]:
        yield Applied(name="flip", words="flip")
    if params.ops is not None:
        yield from policy_operations(params.ops, row)
    yield from _sizes(params, size)
    for number, _ in enumerate(params.passes, 1):
        yield Applied(name="pass", settings={"number": number}, words=f"separate pass {number}")
    if params.erasing is not None and params.erasing.apply[row]:
        box = params.erasing.boxes[row].tolist()
        yield _boxed("erase", box, {"value": params.erasing.value}, f"erase {_box(box)}")
    if params.mix is not None:
        yield _mixed(params.mix, request, row)


def policy_operations(ops: OpParams, row: int) -> Iterator[Applied]:
    """What a policy does to the image at `row`; an identity is left out."""
    from fastpipe.kernels.ops import OPERATIONS

    for place, code in enumerate(ops.ops[row].tolist()):
        operation = OPERATIONS[code]
        if operation.way == "warp":
            yield _warp(ops, row, place)
        elif operation.value:
            value = float(ops.values[row, place])
            words = f"{operation.name} {value:.3g}"
            yield Applied(name=operation.name, settings={"value": value}, words=words)
        elif operation.name != "identity":
            yield Applied(name=operation.name, words=operation.name)


def _warp(ops: OpParams, row: int, place: int) -> Applied:
    """A warp by the name that its matrix tells: the matrix goes from output to input pixels."""
    from fastpipe.kernels import INTERPOLATIONS

    matrix = tuple(ops.matrices[row, place].tolist())
    a, b, c, d, _, f = matrix
    if b and d:
        # Pillow counts degrees counterclockwise.
        name, words = "rotate", f"rotate {math.degrees(math.atan2(d, a)):.3g}°"
    elif b or d:
        name, words = ("shear_x", f"shear_x {b:.2f}") if b else ("shear_y", f"shear_y {d:.2f}")
    else:
        name, words = "translate", f"translate {c:.3g}, {f:.3g} px"
    names = {code: rule for rule, code in INTERPOLATIONS.items()}
    settings = {
        "matrix": matrix,
        "interpolation": names[int(ops.interpolations[row, place])],
        "fill": tuple(ops.fills[row].tolist()),
    }
    return Applied(name=name, settings=settings, words=words)


def _sizes(params: Params, size: Size) -> Iterator[Applied]:
    if params.colout is not None:
        rows, columns = params.colout.rows, params.colout.columns
        words = f"ColOut {size[0]} x {size[1]} -> {len(rows)} x {len(columns)}"
        kept = {"rows": tuple(rows.tolist()), "columns": tuple(columns.tolist())}
        yield Applied(name="colout", settings=kept, words=words)
    if params.resize is not None:
        to = params.resize
        settings = {"height": to.height, "width": to.width, "interpolation": to.interpolation}
        yield Applied(name="resize", settings=settings, words=f"resize to {to.height} x {to.width}")


def _mixed(mix: MixParams, request: Request, row: int) -> Applied:
    partner = int(request.ids[mix.partner[row]])
    settings = {"partner": partner, "weight": mix.weight}
    if mix.region is None:
        words = f"MixUp {mix.weight:.2f} of image {partner}"
        return Applied(name="mixup", settings=settings, words=words)
    return _boxed("cutmix", mix.region, settings, f"CutMix {_box(mix.region)} of image {partner}")


def _boxed(
    name: str, box: tuple[int, ...] | list[int], settings: Mapping[str, object], words: str
) -> Applied:
    places = dict(zip(("top", "left", "height", "width"), box, strict=True))
    return Applied(name=name, settings={**places, **settings}, words=words)


def _box(box: Sequence[int]) -> str:
    top, left, height, width = box
    return f"{height} x {width} at {top}, {left}"
