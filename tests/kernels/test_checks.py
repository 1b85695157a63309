"""What users get wrong: the message names the argument, what is allowed and what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastpipe import kernels

IMAGES = np.zeros((2, 4, 5, 3), np.uint8)
OUT = torch.zeros(2, 3, 4, 5)
BOXES = np.array([[0, 0, 1, 1], [0, 0, 4, 5]])


def augment(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "images": IMAGES,
        "ops": np.zeros((2, 1), np.int64),
        "values": np.zeros((2, 1)),
        "matrices": None,
        "fills": None,
        "interpolations": None,
    }
    kernels.augment_batch(**(arguments | changes))


def finish(**changes: Any) -> None:
    arguments: dict[str, Any] = {"images": IMAGES, "out": OUT.clone(), "table": None}
    kernels.finish(**(arguments | changes))


def erase(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "out": OUT.clone(),
        "boxes": BOXES,
        "values": torch.zeros(3),
        "apply": np.ones(2, bool),
    }
    kernels.erase(**(arguments | changes))


def test_the_untouched_arguments_are_accepted() -> None:
    augment()
    finish()
    erase()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), r"images must be uint8 \[B, H, W, 3\].*float32 \[2, 4, 5, 3\]"),
        (IMAGES[..., :1], r"images must be uint8 \[B, H, W, 3\].*\[2, 4, 5, 1\]"),
        (np.zeros((2, 4, 5, 4), np.uint8), r"images must be uint8 \[B, H, W, 3\].*\[2, 4, 5, 4\]"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"images must be uint8 \[B, H, W, 3\].*\[2, 3, 4, 5\]"),
        (IMAGES[0], r"images must be uint8 \[B, H, W, 3\].*\[4, 5, 3\]"),
        (IMAGES[:0], "images must hold at least one image"),
        (IMAGES[:, :0], "images must hold at least one image"),
        (torch.zeros(2, 4, 5, 3), r"images must be uint8.*torch.Tensor float32 \[2, 4, 5, 3\] on cpu"),
        (torch.zeros((2, 4, 5, 3), dtype=torch.uint8, device="meta"), "images must be on the CPU.*meta"),
    ],
)
def test_images(images: object, message: str) -> None:
    for call in (augment, finish):
        with pytest.raises(ValueError, match=message):
            call(images=images)


def test_images_of_another_type() -> None:
    for call in (augment, finish):
        with pytest.raises(TypeError, match=r"images must be a numpy array or a torch tensor\. Found: list"):
            call(images=IMAGES.tolist())


NAN_TABLE = torch.zeros(3, 256)
NAN_TABLE[1, 7] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"out": OUT.double()},
            r"out must be \[B, 3, H, W\], not empty, of float32, float16, bfloat16, uint8",
        ),
        ({"out": OUT[:1]}, r"out must be \[2, 3, 4, 5\], like images"),
        ({"out": torch.zeros(2, 4, 5, 3)}, r"out must be \[B, 3, H, W\]"),
        ({"out": torch.zeros(2, 3, 5, 4).transpose(2, 3)}, "out must be contiguous or channels_last"),
        ({"table": torch.zeros(3, 255)}, r"table must be float32 \[3, 256\].*\[3, 255\]"),
        ({"table": np.zeros((3, 256))}, r"table must be float32 \[3, 256\].*float64"),
        ({"table": NAN_TABLE}, "table must be finite numbers. Found: .*nan"),
        ({"out": OUT.byte(), "table": torch.zeros(3, 256)}, "table must be None for a uint8 out"),
        ({"flip": np.zeros(3, np.uint8)}, r"flip must be bool or uint8 \[2\].*\[3\]"),
        ({"flip": np.zeros(2)}, r"flip must be bool or uint8 \[2\].*float64"),
    ],
)
def test_finish(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finish(**changes)


def test_finish_into_its_own_input() -> None:
    store = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="out must not share memory with images"):
        kernels.finish(store, store.permute(0, 3, 1, 2), None)


AFFINE = np.full((2, 1), kernels.OPS["affine"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ops": np.zeros((3, 1), np.int64)}, r"ops must be integers \[2, D\].*\[3, 1\]"),
        ({"ops": np.zeros((2, 1))}, r"ops must be integers \[2, D\].*float64"),
        ({"ops": np.full((2, 1), 12)}, r"ops must be codes of OPS.*Found: 12"),
        ({"ops": np.full((2, 1), -1)}, r"ops must be codes of OPS.*Found: -1"),
        ({"values": np.zeros((2, 2))}, r"values must be numbers \[2, 1\], like ops.*\[2, 2\]"),
        ({"ops": np.full((2, 1), 7), "values": np.full((2, 1), np.nan)}, "values must be finite.*nan"),
        (
            {"ops": np.full((2, 1), 3), "values": np.full((2, 1), 9)},
            r"values of posterize.*0\.\.8\. Found: 9",
        ),
        ({"ops": np.full((2, 1), 3), "values": np.full((2, 1), 3.5)}, r"values of posterize.*Found: 3\.5"),
        ({"ops": np.full((2, 1), 5), "values": np.full((2, 1), 256)}, "values of solarize_add.*Found: 256"),
        ({"ops": AFFINE}, r"matrices must be float \[2, 1, 6\] where ops has 'affine'"),
        ({"ops": AFFINE, "matrices": np.zeros((2, 6))}, r"matrices must be float \[2, 1, 6\].*\[2, 6\]"),
        ({"ops": AFFINE, "matrices": np.full((2, 1, 6), np.inf)}, "matrices must be finite.*inf"),
        ({"ops": AFFINE, "matrices": np.full((2, 1, 6), 1e300)}, r"matrices must have coefficients within"),
        ({"fills": np.full((2, 3), 256)}, r"fills must be in 0\.\.255\. Found: 256"),
        ({"fills": np.zeros((1, 3), np.uint8)}, r"fills must be integers \[2, 3\].*\[1, 3\]"),
        ({"interpolations": np.full((2, 1), 2)}, r"interpolations must be in 0\.\.1\. Found: 2"),
        ({"flip": np.zeros((2, 1), bool)}, r"flip must be bool or uint8 \[2\].*\[2, 1\]"),
        ({"out": np.zeros((2, 4, 5, 3), np.uint8)[:1]}, r"out must be \[2, 4, 5, 3\], like images"),
        ({"out": np.zeros((2, 5, 4, 3), np.uint8).transpose(0, 2, 1, 3)}, "out must be C-contiguous"),
    ],
)
def test_augment_batch(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**changes)


def test_numbers_that_no_operation_reads_may_be_nan() -> None:
    augment(values=np.full((2, 1), np.nan), matrices=np.full((2, 1, 6), np.nan))


def test_out_that_overlaps_a_part_of_images() -> None:
    store = np.zeros((3, 4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="out must be images itself or share no memory"):
        augment(images=store[:2], out=store[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": BOXES[:1]}, r"boxes must be integers \[2, 4\].*\[1, 4\]"),
        ({"boxes": BOXES.astype(np.float64)}, r"boxes must be integers \[2, 4\].*float64"),
        (
            {"boxes": np.add(BOXES, [0, 0, 1, 0])},
            r"boxes .* must lie inside 4 x 5 pixels. Found: \[0, 0, 5, 5\]",
        ),
        (
            {"boxes": np.subtract(BOXES, [0, 1, 0, 0])},
            r"boxes .* must lie inside 4 x 5 pixels. Found: \[0, -1, 1, 1\]",
        ),
        ({"values": torch.zeros(2)}, r"values must be float \[3\] or \[2, 3\]"),
        ({"values": torch.full((3,), float("nan"))}, "values must be finite"),
        ({"apply": np.ones(3, bool)}, r"apply must be bool or uint8 \[2\]"),
        ({"out": OUT.byte()}, "out must be .* of float32, float16, bfloat16. Found: .*uint8"),
    ],
)
def test_erase(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        erase(**changes)


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("blur", {}, "op must be one of identity, autocontrast.*Found: 'blur'"),
        ("affine", {}, "matrix must be given for op='affine' and only there"),
        ("invert", {"matrix": kernels.shear_x(1)}, "matrix must be given for op='affine' and only there"),
        ("affine", {"matrix": (1, 2)}, "matrix must have 6 coefficients"),
        ("invert", {"fill": (0, 0, 300)}, r"fill must be 3 integers in 0\.\.255"),
        ("invert", {"fill": (0, 0)}, r"fill must be 3 integers in 0\.\.255"),
        ("invert", {"interpolation": "bicubic"}, "interpolation must be one of nearest, bilinear"),
        ("color", {"value": float("nan")}, "values must be finite"),
    ],
)
def test_apply_op(op: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.apply_op(IMAGES, op, **changes)


def test_normalize_table() -> None:
    with pytest.raises(ValueError, match="mean and std must have 3 numbers, std above 0"):
        kernels.normalize_table((0, 0, 0), (1, 0, 1))
    with pytest.raises(ValueError, match="mean and std must have 3 numbers"):
        kernels.normalize_table((0,), (1, 1, 1))
