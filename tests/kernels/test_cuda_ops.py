"""The CUDA kernels as torch operations, as far as that shows without a GPU: schemas, tracing, streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fastpipe import kernels
from fastpipe.kernels.cuda import finish_ops as cuda_finish_ops
from fastpipe.kernels.cuda import ops as cuda_ops
from fastpipe.kernels.cuda import plan as cuda_plan
from fastpipe.kernels.cuda.finish_plan import (
    filters,
    finish_names,
    finish_numbers,
    schedule_mixed,
    schedule_resize,
)
from fastpipe.kernels.cuda.plan import make_plan

TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ROWS, COLUMNS = np.array([0, 2, 3]), np.array([1, 1, 5, 7])


def picked_on_cpu(
    images: torch.Tensor, numbers: Any, norm: torch.Tensor, height: int, width: int, channels_last: bool
) -> torch.Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty((len(images), 3, height, width), dtype=norm.dtype, memory_format=layout)
    num = len(images)
    rows, columns = numbers[6 * num : 6 * num + height], numbers[6 * num + height :]
    table = norm.view(3, 256).float()
    return kernels.finish(images, out, table, flip=numbers[:num].bool(), rows=rows, columns=columns)


def resized_on_cpu(
    images: torch.Tensor,
    numbers: Any,
    norm: torch.Tensor,
    row_filters: torch.Tensor,
    column_filters: torch.Tensor,
    kept_height: int,
    kept_width: int,
    channels_last: bool,
) -> torch.Tensor:
    small = kernels.resize(images, len(row_filters), len(column_filters))
    rest = torch.cat([numbers[: 6 * len(images)], *(torch.arange(side) for side in small.shape[1:3])])
    return picked_on_cpu(small, rest, norm, small.shape[1], small.shape[2], channels_last)


def mix_on_cpu(out: torch.Tensor, images: Any, numbers: Any, shares: Any, region: Any) -> None:
    top, left, height, width = region
    out[:, :, top : top + height, left : left + width] = 1.5


def fused_on_cpu(images: Any, numbers: Any, norm: Any, header: Any, channels_last: bool) -> torch.Tensor:
    num, height, width, _ = images.shape
    every = torch.cat([torch.zeros(6 * num), torch.arange(height), torch.arange(width)]).int()
    return picked_on_cpu(images, every, norm, height, width, channels_last)


def erase_on_cpu(out: torch.Tensor, boxes: Any, values: Any, largest: int) -> None:
    out[0, :, :2, :2] = values[:, None, None]


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[None]:
    """For these tests the operations run on the CPU too, by the CPU kernels."""
    library = torch.library.Library("fastpipe", "IMPL")
    for name, function in (
        ("picked", picked_on_cpu),
        ("resized", resized_on_cpu),
        ("mix_", mix_on_cpu),
        ("fused", fused_on_cpu),
        ("erase_boxes_", erase_on_cpu),
    ):
        library.impl(name, function, "CPU")
    yield
    library._destroy()


def arguments_of(name: str, channels_last: bool = True) -> tuple[Any, ...]:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8))
    norm = TABLE.to(torch.float16).reshape(-1)
    numbers = torch.from_numpy(finish_numbers(2, 6, 8, rows=ROWS, columns=COLUMNS))
    every = torch.from_numpy(finish_numbers(2, 6, 8))
    out = torch.zeros((2, 3, 6, 8))
    plan = make_plan((2, 6, 8, 3), None, None, None, None, None, None)
    tables = [torch.tensor(filters(6, 4)), torch.tensor(filters(8, 5))]
    return {
        "picked": (images, numbers, norm, 3, 4, channels_last),
        "resized": (images, every, norm, *tables, 6, 8, channels_last),
        "mix_": (out, images, every, kernels.mix_shares(TABLE, (0, 0, 0), 0.25), [0, 1, 2, 3]),
        "fused": (images, torch.from_numpy(plan.numbers), norm, list(plan.header), channels_last),
        "erase_boxes_": (out, torch.zeros((1, 5), dtype=torch.int32), torch.ones(3), 4),
    }[name]


NAMES = ["picked", "resized", "mix_", "fused", "erase_boxes_"]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_torchs_own_check_of_schema_fake_and_tracing(on_cpu: None, name: str, channels_last: bool) -> None:
    """A wrong stride, dtype or mutation in a fake would be wrong memory under torch.compile."""
    operation = getattr(torch.ops.fastpipe, name).default
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(operation, arguments_of(name, channels_last), test_utils=checks)


def test_export_keeps_the_operations(on_cpu: None) -> None:
    class Model(torch.nn.Module):
        def forward(self, images: torch.Tensor, numbers: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
            return cuda_finish_ops.picked(images, numbers, norm, 3, 4, True) * 2

    arguments = arguments_of("picked")[:3]
    program = torch.export.export(Model(), arguments)
    assert "torch.ops.fastpipe.picked.default" in program.graph_module.code
    torch.testing.assert_close(program.module()(*arguments), Model()(*arguments), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": np.array([0, 6])}, r"rows must be at least one number in 0\.\.5"),
        ({"columns": np.array([], np.int64)}, r"columns must be at least one number in 0\.\.7"),
        ({"partner": np.array([0, -1])}, r"partner must be at least one number in 0\.\.1"),
    ],
)
def test_numbers_that_point_outside_never_reach_a_kernel(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        finish_numbers(2, 6, 8, **changes)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((0, 8, 8, 3), "at least one image"),
        ((1, 0, 8, 3), "at least 1 x 1 pixels"),
        ((1, 1, 65_536, 3), "sides of at most 65535 pixels"),
        ((65_536, 1, 1, 3), "at most 65535 of together"),
    ],
)
def test_batches_beyond_the_limits_are_refused(shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_plan(shape, None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("kept", "new", "words"),
    [
        ((224, 224), (448, 448), "resized images"),
        # The result is small, what lies between the two filters is not.
        ((224, 224), (8, 2000), "images with their rows filtered"),
        ((8, 8), (65_536, 8), "resized images must .* with sides of at most 65535"),
    ],
)
def test_a_resize_beyond_32_bits_is_refused_before_memory_is_taken(
    kept: tuple[int, int], new: tuple[int, int], words: str
) -> None:
    """8,192 images of 448 x 448 went through: 4.9e9 elements, whose indices wrapped."""
    with pytest.raises(ValueError, match=words):
        schedule_resize(8192, (224, 224), kept, new, (3, 3), bits=16, channels_last=True)


def meta(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_no_operation_takes_what_its_indices_cannot_reach() -> None:
    """Also where the caller made the numbers for another batch."""
    images, norm = meta(8192, 448, 448, 3), meta(768, dtype=torch.float16)
    numbers = meta(6 * 8192 + 2 * 448, dtype=torch.int32)
    filters_ = [meta(448, 4, dtype=torch.int32)] * 2
    out, shares = meta(8192, 3, 448, 448, dtype=torch.float16), meta(2, 3, 257, dtype=torch.float32)
    small = meta(8192, 224, 224, 3)
    with pytest.raises(ValueError, match="images must be at most"):
        cuda_ops._fused_cuda(images, numbers, norm, [8192, 1], True)
    with pytest.raises(ValueError, match="images must be at most"):
        cuda_finish_ops._picked_cuda(images, numbers, norm, 448, 448, True)
    with pytest.raises(ValueError, match="the result must be at most"):
        cuda_finish_ops._picked_cuda(small, numbers, norm, 448, 448, True)
    with pytest.raises(ValueError, match="resized images must be at most"):
        small_numbers = meta(6 * 8192 + 2 * 224, dtype=torch.int32)
        cuda_finish_ops._resized_cuda(small, small_numbers, norm, *filters_, 224, 224, True)
    with pytest.raises(ValueError, match="the result must be at most"):
        cuda_finish_ops._mix_cuda(out, small, numbers, shares, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="out must be at most"):
        cuda_ops._erase_cuda(out, meta(1, 5, dtype=torch.int32), meta(3, dtype=torch.float16), 4)
    with pytest.raises(ValueError, match=r"at most\. Found: 3"):
        cuda_ops._erase_cuda(out[:2], meta(3, 5, dtype=torch.int32), meta(3, dtype=torch.float16), 4)


STEEP = (9000.0, 0.1, -20000.0, 0.2, 1.0, 0.0)


def plan_nearest(matrix: Any, num: int, height: int, width: int) -> None:
    ops, matrices = np.full((num, 1), kernels.OPS["affine"]), np.tile(matrix, (num, 1, 1))
    make_plan((num, height, width, 3), ops, np.zeros(ops.shape), matrices, None, None, None)


def test_maps_longer_than_int32_are_refused_before_they_are_made() -> None:
    """Where a map starts is an int32, and wrapped: 300 images of 2000 x 2000 list 2.4e9 numbers."""
    with pytest.raises(ValueError, match=r"at most 2147483647 numbers .* Found: 2400000000. Remedy: fewer"):
        plan_nearest(STEEP, 300, 2000, 2000)


@pytest.mark.parametrize("matrix", [STEEP, kernels.translate_x(3.0)], ids=["pixels", "lines"])
def test_the_limit_of_the_maps(monkeypatch: pytest.MonkeyPatch, matrix: Any) -> None:
    numbers = 4 * 2 * 5 * 7 if matrix is STEEP else 4 * (5 + 7)
    monkeypatch.setattr(cuda_plan, "_MAX_MAPS", numbers)
    plan_nearest(matrix, 4, 5, 7)
    with pytest.raises(ValueError, match=f"Found: {numbers // 4 * 5}"):
        plan_nearest(matrix, 5, 5, 7)


def test_boxes_that_do_not_apply_are_empty() -> None:
    boxes = np.array([[1, 2, 3, 4], [9, 9, 9, 9]])
    numbers = finish_numbers(
        2, 20, 20, boxes=boxes, apply=np.array([True, False]), flip=np.array([False, True])
    )
    assert numbers[:12].tolist() == [0, 1, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0]
    assert numbers[12:].tolist() == [*range(20), *range(20)]


def test_an_empty_box_of_cutmix_launches_nothing() -> None:
    sizes = ((8, 8), (8, 8))
    assert list(schedule_mixed(2, *sizes, (3, 3, 0, 4), dtype="float16", channels_last=True)) == []
    assert "resize_columns" in finish_names(16)
