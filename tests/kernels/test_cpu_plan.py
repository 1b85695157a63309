"""The compiled plan of a CUDA batch has the numbers of the numpy one, its reference, one for one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpipe import kernels
from fastpipe.kernels.cuda.plan import make_plan


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location(
        "plan_reference", Path(__file__).with_name("plan_reference.py")
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules["plan_reference"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()
AFFINE = kernels.OPS["affine"]


def matrices(rng: np.random.Generator, num: int, height: int, width: int) -> Any:
    """Turns, shears, moves by whole and other pixels, zooms; beyond fixed point, and beyond 32 bits of it."""
    kinds = [
        lambda: kernels.rotate(float(rng.uniform(-180, 180)), height, width),
        lambda: kernels.shear_x(float(rng.uniform(-0.9, 0.9))),
        lambda: kernels.shear_y(float(np.round(rng.uniform(-0.3, 0.3), 2))),
        lambda: kernels.translate_x(float(rng.integers(-width, width + 1))),
        lambda: kernels.translate_y(float(rng.uniform(-height, height))),
        lambda: (float(rng.uniform(0.3, 3)), 0.0, float(rng.normal()), 0.0, float(rng.uniform(0.3, 3)), 1.25),
        lambda: (1.0, 1e-9, float(rng.choice([32767.0, 32768.0, -32768.0, 4e4])), 0.0, 1.0, 0.0),
        lambda: (1.0, 0.5, float(rng.choice([32700.0, -32750.0, 1e12])), -0.5, 1.0, 0.25),
    ]
    return np.array([kinds[int(rng.integers(len(kinds)))]() for _ in range(num)])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (13, 20), (64, 48)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_number_is_the_references(shape: tuple[int, int], depth: int) -> None:
    height, width = shape
    for seed in range(4):
        rng = np.random.default_rng([seed, depth, height, width])
        num = int(rng.integers(1, 40))
        ops = rng.integers(0, len(kernels.OPS), (num, depth)).astype(np.int16)
        ops[rng.random((num, depth)) < 0.4] = AFFINE
        values = rng.choice([0.0, -3.5, 1.0, 8.0, 99.5, 255.0, 300.0, -400.0, 0.1, 1.9], (num, depth))
        warps = matrices(rng, num * depth, height, width).reshape(num, depth, 6)
        fills = rng.integers(0, 256, (num, 3)).astype(np.uint8)
        modes = rng.integers(0, 2, (num, depth)).astype(np.uint8)
        flip = rng.random(num) < 0.5
        given = ((num, height, width, 3), ops, values, warps, fills, modes, flip)
        ours, expected = make_plan(*given), reference.make_plan(*given)
        assert ours.header == expected.header
        np.testing.assert_array_equal(ours.numbers, expected.numbers)


@pytest.mark.parametrize("part", range(6))
def test_a_part_that_is_left_out_is_the_references_too(part: int) -> None:
    ops = np.arange(len(kernels.OPS))[:, None]
    num = len(ops)
    given: list[Any] = [
        ops,
        np.full(ops.shape, 1.37),
        np.tile(np.array(kernels.shear_x(0.2)), (num, 1, 1)),
        np.full((num, 3), 7, np.uint8),
        np.ones(ops.shape, np.uint8),
        np.arange(num),  # any number but 0 flips
    ]
    given[part] = None
    shape = (num, 9, 12, 3)
    ours, expected = make_plan(shape, *given), reference.make_plan(shape, *given)
    assert ours.header == expected.header
    np.testing.assert_array_equal(ours.numbers, expected.numbers)
