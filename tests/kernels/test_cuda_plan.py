"""The host's half of the CUDA kernels, without numba-cuda and without a GPU: plans, maps, launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fastpipe import kernels
from fastpipe.kernels.cuda.driver import Driver
from fastpipe.kernels.cuda.layout import FIXED, KIND, LINE_MAPS, MATRIX, PIXELS, WHOLE_ROW
from fastpipe.kernels.cuda.plan import CudaPlan, make_plan
from fastpipe.kernels.cuda.schedule import kernel_names, schedule

AFFINE = kernels.OPS["affine"]


def plan_of(matrix: Any, height: int, width: int, interpolation: int) -> CudaPlan:
    shape = (1, height, width, 3)
    modes = np.full((1, 1), interpolation)
    return make_plan(
        shape, np.full((1, 1), AFFINE), np.zeros((1, 1)), np.array([[matrix]], float), None, modes, None
    )


def nearest_sources(matrix: Any, height: int, width: int) -> npt.NDArray[np.int64]:
    """Column and row of each pixel, by what the kernel reads from the plan; outside is any number outside."""
    plan = plan_of(matrix, height, width, 0)
    row, maps = plan.numbers[:WHOLE_ROW], plan.numbers[plan.header[3] : plan.header[4]]
    y, x = np.mgrid[0:height, 0:width].astype(np.int32)
    if row[KIND] == 0:
        f = row[FIXED : FIXED + 6]
        with np.errstate(over="ignore"):
            return np.stack([(f[2] + f[0] * x + f[1] * y) >> 16, (f[5] + f[3] * x + f[4] * y) >> 16])
    maps = maps[row[LINE_MAPS] :]
    if row[KIND] == PIXELS:
        return maps.reshape(height, width, 2).transpose(2, 0, 1)
    return np.stack([np.tile(maps[:width], (height, 1)), np.tile(maps[width:, None], (1, width))])


NEAREST = {
    "shear": kernels.shear_x(0.3),
    "turn": kernels.rotate(33.3, 40, 56),
    "quarter": kernels.rotate(90, 40, 56),
    "whole translation": kernels.translate_x(7),
    "broken translation": kernels.translate_y(-5.49999),
    "scale": (0.7, 0.0, 1.3, 0.0, 1.9, -2.0),
    "beyond fixed point": (1.0, 0.1, 40000.0, 0.2, 1.0, 0.0),
    "steep": (9000.0, 0.1, -20000.0, 0.2, 1.0, 0.0),
    "edge of fixed point": (580.0, 0.001, 0.0, 0.001, 800.0, 1.0),
}


@pytest.mark.parametrize("name", NEAREST)
def test_nearest_sources_are_pillows(name: str) -> None:
    """The three forms of a nearest warp, read as the kernel reads them, against the CPU kernel's bytes."""
    height, width = 40, 56
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.uint8)
    expected = kernels.apply_op(image, "affine", matrix=NEAREST[name])
    column, row = nearest_sources(NEAREST[name], height, width)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    assert np.array_equal(inside, expected[..., 2] == 200)
    assert np.array_equal(column[inside], expected[..., 0][inside])
    assert np.array_equal(row[inside], expected[..., 1][inside])


def test_a_bilinear_warp_has_its_matrix_as_it_is() -> None:
    """Not a bit of it may be lost: 0.13 has none to spare."""
    matrix = kernels.rotate(33.3, 40, 56)
    row = plan_of(matrix, 40, 56, 1).numbers[:WHOLE_ROW]
    assert row.view(np.float64)[MATRIX : MATRIX + 6].tolist() == list(matrix)
    far = (1e9, 0.25, -3e9, 0.0, 1e9, 0.0)
    assert plan_of(far, 4, 4, 1).numbers[:WHOLE_ROW].view(np.float64)[MATRIX : MATRIX + 6].tolist() == list(
        far
    )


@pytest.mark.parametrize(
    ("matrix", "path"),
    [
        (kernels.translate_x(5.0), "nearest"),
        ((1, 0, -3, 0, 1, 7), "nearest"),
        (kernels.translate_y(-2.5), "bilinear"),
        (kernels.shear_x(0.13), "bilinear"),
        (kernels.rotate(0, 40, 56), "nearest"),
        ((2, 0, 1, 0, 1, 0), "bilinear"),
    ],
)
def test_a_move_by_whole_pixels_needs_no_taps(matrix: Any, path: str) -> None:
    plan = plan_of(matrix, 40, 56, 1)
    options: Any = {"bits": 8, "channels_last": True, "aligned": True}
    assert [launch.kernel for launch in schedule(plan.header, 40, 56, **options)] == [f"{path}_8"]


def test_a_batch_beyond_32_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65535 of together 4294967295 elements"):
        make_plan((65535, 256, 256, 3), None, None, None, None, None, None)


def launches_of(width: int, depth: int, **options: Any) -> list[Any]:
    num = len(kernels.OPS)
    ops = np.tile(np.arange(num)[:, None], (1, depth))
    plan = make_plan((num, 8, width, 3), ops, np.zeros(ops.shape), None, None, np.zeros(ops.shape), None)
    return list(schedule(plan.header, 8, width, **options))


def test_every_image_is_written_once_per_depth() -> None:
    for width in (8, 7):
        launches = launches_of(width, 3, bits=16, channels_last=False, aligned=True)
        for target in ("scratch0", "scratch1", "out"):
            written = {(target, 0), (f"{target}:quads", 0)}
            writers = [x for x in launches if written & {*x.arguments[1:]}]
            counts = [
                x.grid[2] if "nearest" in x.kernel or "blended" in x.kernel else x.grid[1] for x in writers
            ]
            assert sum(counts) == len(kernels.OPS), target


def test_what_is_not_aligned_takes_the_plain_path() -> None:
    def points(width: int, aligned: bool) -> set[str]:
        launches = launches_of(width, 1, bits=32, channels_last=True, aligned=aligned)
        return {x.kernel for x in launches if x.kernel.startswith(("plain", "packed"))}

    assert points(8, True) == {"packed_nhwc_32"}
    assert points(8, False) == points(7, True) == {"plain_32"}


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_every_scheduled_kernel_is_loaded(bits: int) -> None:
    names = set(kernel_names(bits))
    for width in (8, 7):
        for channels_last in (True, False):
            for launch in launches_of(width, 2, bits=bits, channels_last=channels_last, aligned=True):
                assert launch.kernel in names


class FakeLibrary:
    """Records driver calls; `fail` makes one of them return error 999."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.fail = fail

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, arguments))
            return 999 if name == self.fail else 0

        return call


def test_a_launch_hands_over_pointers_as_64_and_numbers_as_32_bits(tmp_path: Any) -> None:
    import ctypes

    library = FakeLibrary()
    driver = Driver(library)
    ptx = tmp_path / "k.ptx"
    ptx.write_text(".version 9.0\n.visible .entry _Zkernel(\n")
    driver.load(0, "k", ptx)
    driver.load(0, "k", ptx)
    driver.launch(0, "k", (4, 5, 6), (32, 8, 1), 77, [2**40 + 8, 2**32 - 1])
    names = [name for name, _ in library.calls]
    assert names == ["cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"]
    assert library.calls[1][1][2].value == b"_Zkernel"
    arguments = library.calls[2][1]
    assert arguments[1:9] == (4, 5, 6, 32, 8, 1, 0, 77)
    assert ctypes.c_uint64.from_address(arguments[9][0]).value == 2**40 + 8
    assert ctypes.c_uint32.from_address(arguments[9][1]).value == 2**32 - 1


def test_the_drivers_error_is_an_exception() -> None:
    with pytest.raises(RuntimeError, match="cuCtxGetCurrent"):
        Driver(FakeLibrary("cuCtxGetCurrent")).enter(0)


@pytest.mark.parametrize("channels_last", [True, False])
def test_torch_knows_shape_dtype_and_layout_of_the_result(channels_last: bool) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from fastpipe.kernels.cuda.ops import fused

    with FakeTensorMode():
        images = torch.empty((2, 6, 8, 3), dtype=torch.uint8, device="cuda")
        numbers = torch.empty(100, dtype=torch.int32, device="cuda")
        norm = torch.empty(768, dtype=torch.bfloat16, device="cuda")
        out = fused(images, numbers, norm, [2, 1, 48, 50, 50, 0, 0], channels_last)
    assert out.shape == (2, 3, 6, 8) and out.dtype == torch.bfloat16 and out.device.type == "cuda"
    assert out.stride() == ((144, 1, 24, 3) if channels_last else (144, 48, 8, 1))
