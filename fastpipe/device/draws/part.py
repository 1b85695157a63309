"""The parameters of some images of a batch, as they are within the whole batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastpipe.device.draws.batch import MixParams, draw_mix
from fastpipe.device.draws.draw import Params
from fastpipe.device.draws.params import OpParams
from fastpipe.transforms.mix_specs import CutMix, MixUp, RandomChoice
from fastpipe.types import IntArray, Plan, Request

__all__ = ["part_of", "partners_of"]


def partners_of(plan: Plan, request: Request) -> IntArray | None:
    """The row of each image's partner in MixUp or CutMix, int64 [B]; None in a plan without them."""
    for step in plan.device:
        if isinstance(step, MixUp | CutMix | RandomChoice):
            return draw_mix(step, request, 1, 1).partner  # partners do not depend on the size of images
    return None


def part_of(params: Params, rows: IntArray) -> Params:
    """The parameters of the images at `rows`, int64 [b], which then are a batch of their own.

    An image whose partner is not among them becomes its own partner: only its result is wrong.
    """
    return replace(
        params,
        flip=None if params.flip is None else params.flip[rows],
        ops=None if params.ops is None else _operations(params.ops, rows),
        erasing=None
        if params.erasing is None
        else replace(params.erasing, boxes=params.erasing.boxes[rows], apply=params.erasing.apply[rows]),
        mix=None if params.mix is None else _mix(params.mix, rows),
    )


def _operations(ops: OpParams, rows: IntArray) -> OpParams:
    return OpParams(
        ops=ops.ops[rows],
        values=ops.values[rows],
        matrices=ops.matrices[rows],
        interpolations=ops.interpolations[rows],
        fills=ops.fills[rows],
    )


def _mix(mix: MixParams, rows: IntArray) -> MixParams:
    place = {int(row): at for at, row in enumerate(rows)}
    partner = [place.get(int(mix.partner[row]), at) for at, row in enumerate(rows)]
    return replace(mix, partner=np.array(partner, dtype=np.int64))
