"""The one definition of how far another device's pixels may be."""

from __future__ import annotations

import pytest
import torch

from fastpipe import kernels
from fastpipe.kernels.tolerance import disagreement

TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PER_IMAGE = 3 * 40 * 50


def changed(num: int, *counts: int, by: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels, and the same with so many bytes of each of the first images changed."""
    expected = torch.full((num, 3, 40, 50), 100, dtype=torch.uint8)
    ours = expected.clone()
    for image, count in enumerate(counts):
        ours[image].view(-1)[:count] += by
    return ours, expected


@pytest.mark.parametrize(
    ("num", "counts", "by", "accepted"),
    [
        (64, (60, 60, 60, 12), 1, True),  # 192 = 5e-4 of 64 images; 60 = 1 % of one
        (64, (61, 0), 1, False),
        (64, (60, 60, 60, 13), 1, False),
        (64, (1,), 2, False),
        (128, (60, 60, 60, 12), 1, True),
        # Of 128 images any 64 count, so not spread over all of them.
        (128, (4,) * 64, 1, False),
        (128, (3,) * 128, 1, True),
        (1, (3,), 1, True),
        (1, (4,), 1, False),
    ],
)
def test_levels(num: int, counts: tuple[int, ...], by: int, accepted: bool) -> None:
    ours, expected = changed(num, *counts, by=by)
    assert (disagreement(ours, expected, tolerant=True, table=None) == "") == accepted
    assert "bytes differ" in disagreement(ours, expected, tolerant=False, table=None)


def test_equal_bytes_are_always_right() -> None:
    ours, expected = changed(3)
    assert disagreement(ours, expected, tolerant=False, table=None) == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_values_are_a_level_apart_or_more(dtype: torch.dtype) -> None:
    for by in (1, 2):
        levels = changed(64, 5, by=by)
        # The first bytes are red's.
        ours, expected = (TABLE[0][level.long()].to(dtype) for level in levels)
        assert (disagreement(ours, expected, tolerant=True, table=TABLE) == "") == (by == 1)


def test_what_is_not_a_number_differs() -> None:
    ours = torch.full((64, 3, 40, 50), float("nan"))
    assert "bytes differ" in disagreement(ours, ours.clone(), tolerant=True, table=TABLE)


def test_another_shape_or_dtype_is_named() -> None:
    ours, expected = changed(2)
    assert "[1, 3, 40, 50] instead of" in disagreement(ours[:1], expected, tolerant=True, table=None)
    assert "torch.int16" in disagreement(ours.short(), expected, tolerant=True, table=None)
