"""The kornia engine: our draws, kornia's pixels; where they are Pillow's too, and where they are not."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from fastpipe.device.draws.batch import ColOutParams, MixParams
from fastpipe.device.draws.draw import Params, draw
from fastpipe.device.draws.params import OpParams
from fastpipe.device.engines.fused import FusedEngine
from fastpipe.device.engines.make import make_engine
from fastpipe.device.engines.protocol import ENGINES, Output
from fastpipe.errors import MissingExtraError
from fastpipe.kernels import OPS
from fastpipe.kernels.matrices import rotate, shear_x, translate_x
from fastpipe.transforms import HorizontalFlip, RandAugment, TrivialAugmentWide
from fastpipe.types import Request

CPU = torch.device("cpu")
LEVELS = Output(dtype=torch.uint8, memory_format=torch.contiguous_format, table=None)
STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SIDE = 48


@pytest.fixture(scope="module")
def kornia_engine() -> Any:
    pytest.importorskip("kornia", reason="the kornia extra is not installed")
    return make_engine("kornia", CPU)


def photos(num: int = 4) -> torch.Tensor:
    """Smooth colour, as photos are, with some grain; every level occurs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(5 * x + 3 * y * k + np.arange(3)[:, None, None] * 2 + k) for k in range(num)]
    pixels = 128 + 110 * np.stack(waves) + rng.normal(0, 6, (num, 3, SIDE, SIDE))
    return torch.from_numpy(np.clip(pixels, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy())


def params_of(op: str, value: float, num: int, matrix: Any = STILL, mode: int = 1, **rest: Any) -> Params:
    ops = OpParams(
        ops=np.full((num, 1), OPS[op], np.int16),
        values=np.full((num, 1), value),
        matrices=np.tile(np.asarray(matrix, np.float64), (num, 1, 1)),
        interpolations=np.full((num, 1), mode, np.uint8),
        fills=np.tile(np.array([128, 10, 200], np.uint8), (num, 1)),
    )
    return Params(ops=ops, **rest)


def both(engine: Any, images: torch.Tensor, params: Params, output: Output = LEVELS) -> tuple[Any, Any]:
    """[B,3,h,w] by kornia and by the fused engine."""
    fused = FusedEngine()
    ours = fused.finish(fused.augment(images, params), params, output)
    return engine.finish(engine.augment(images, params), params, output), ours


def distance(engine: Any, op: str, value: float, **rest: Any) -> torch.Tensor:
    theirs, ours = both(engine, photos(), params_of(op, value, 4, **rest))
    return (theirs.int() - ours.int()).abs()


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("identity", 0.0),
        ("invert", 0.0),
        *(("solarize", threshold) for threshold in (0.0, 1.0, 100.0, 127.5, 255.0, 256.0)),
        *(("solarize_add", addend) for addend in (0.0, 37.0, 110.0)),
        *(("posterize", bits) for bits in (0.0, 1.0, 4.0, 7.0, 8.0)),
    ],
)
def test_equal_to_pillow_in_every_byte(kornia_engine: Any, op: str, value: float) -> None:
    assert distance(kornia_engine, op, value).max() == 0


@pytest.mark.parametrize(
    ("op", "value", "limit"), [("autocontrast", 0.0, 1), ("sharpness", 0.3, 1), ("sharpness", 1.8, 1)]
)
def test_within_one_level(kornia_engine: Any, op: str, value: float, limit: int) -> None:
    gap = distance(kornia_engine, op, value)
    assert gap.max() <= limit


@pytest.mark.parametrize(
    "matrix", [translate_x(7.0), shear_x(0.213), rotate(17.0, SIDE, SIDE)], ids=["shift", "shear", "rotation"]
)
@pytest.mark.parametrize("mode", [0, 1])
def test_warps_agree_inside_and_differ_at_the_border(kornia_engine: Any, matrix: Any, mode: int) -> None:
    gap = distance(kornia_engine, "affine", 0.0, matrix=matrix, mode=mode).amax(1)
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    a, b, c, d, e, f = matrix
    x, y = a * xs + b * ys + c, d * xs + e * ys + f
    inside = (x > 1) & (x < SIDE - 1) & (y > 1) & (y < SIDE - 1)
    outside = (x < -1) | (x > SIDE + 1) | (y < -1) | (y > SIDE + 1)
    assert inside.mean() > 0.5
    if mode == 1:  # Pillow cuts the fraction, here it is rounded
        assert gap[:, inside].max() <= 1
    else:  # a coordinate near a pixel's edge may fall to either side
        assert (gap[:, inside] == 0).float().mean() > 0.98
    if outside.any():
        assert gap[:, outside].max() == 0


def test_warp_borders_blend_with_the_fill(kornia_engine: Any) -> None:
    """Documented: half a pixel to the side, kornia mixes the fill in, Pillow repeats the border."""
    gap = distance(kornia_engine, "affine", 0.0, matrix=translate_x(0.5), mode=1)
    assert gap[..., :-1].max() <= 1 and gap[..., -1].max() > 10


@pytest.mark.parametrize(
    ("op", "value", "rule"),
    [
        ("brightness", 1.4, lambda x: x + 0.4),
        ("brightness", 0.7, lambda x: x - 0.3),
        ("contrast", 0.6, lambda x: x * 0.6),
        ("contrast", 1.5, lambda x: x * 1.5),
    ],
)
def test_documented_differences_are_kornias_rules(
    kornia_engine: Any, op: str, value: float, rule: Any
) -> None:
    theirs, ours = both(kornia_engine, photos(), params_of(op, value, 4))
    x = photos().permute(0, 3, 1, 2).float() / 255
    expected = rule(x).clamp(0, 1).mul(255)
    assert (theirs.float() - expected).abs().max() <= 0.51
    assert (theirs.int() - ours.int()).abs().max() > 15


def test_color_keeps_hsv_value_where_pillow_keeps_gray(kornia_engine: Any) -> None:
    theirs, ours = both(kornia_engine, photos(), params_of("color", 0.0, 4))
    top = photos().permute(0, 3, 1, 2).amax(1)
    assert (theirs.int() - top[:, None].int()).abs().max() <= 1
    assert (theirs.int() - ours.int()).abs().max() > 15


def test_equalize_flattens_the_histogram(kornia_engine: Any) -> None:
    theirs, ours = both(kornia_engine, photos(), params_of("equalize", 0.0, 4))
    assert (theirs.int() - ours.int()).abs().float().mean() < 2.0


def test_flip_colout_and_mixing_are_ours(kornia_engine: Any) -> None:
    """The same draws go through the same code: exact beside an operation that is exact."""
    rng = np.random.default_rng(3)
    keep = np.sort(rng.permutation(SIDE)[: SIDE - 5]).astype(np.int64)
    params = params_of(
        "invert",
        0.0,
        4,
        flip=np.array([True, False, True, False]),
        colout=ColOutParams(rows=keep, columns=keep[:-2]),
        mix=MixParams(partner=np.array([2, 3, 0, 1]), weight=0.25),
    )
    table = torch.linspace(-2, 2, 256).repeat(3, 1)
    output = Output(dtype=torch.float32, memory_format=torch.channels_last, table=table)
    theirs, ours = both(kornia_engine, photos(), params, output)
    assert theirs.shape == (4, 3, SIDE - 5, SIDE - 7) and theirs.is_contiguous(
        memory_format=torch.channels_last
    )
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [RandAugment(depth=2), TrivialAugmentWide(), RandAugment(space="timm")])
def test_each_image_has_its_own_draw(kornia_engine: Any, step: Any) -> None:
    """Alone or in the batch, an image gets the same operations; batches are not drawn as a whole."""
    images = photos(12)
    ids = np.arange(12, dtype=np.int64)
    request = Request(seed=5, epoch=0, batch=0, ids=ids, repeats=np.zeros_like(ids))
    whole = draw((HorizontalFlip(p=0.5), step), request, SIDE, SIDE)
    assert whole.ops is not None and len(np.unique(whole.ops.ops[:, 0])) > 3
    together = kornia_engine.finish(images, whole, LEVELS)
    for place in (0, 5, 11):
        one = Request(seed=5, epoch=0, batch=0, ids=ids[[place]], repeats=np.zeros(1, np.int64))
        alone = kornia_engine.finish(
            images[[place]], draw((HorizontalFlip(p=0.5), step), one, SIDE, SIDE), LEVELS
        )
        assert (together[place].int() - alone[0].int()).abs().max() <= 1


def test_the_input_is_left_alone(kornia_engine: Any) -> None:
    images = photos()
    before = images.clone()
    kornia_engine.finish(images, params_of("invert", 0.0, 4), LEVELS)
    assert torch.equal(images, before)


def test_without_kornia_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    assert "kornia" in ENGINES
    with pytest.raises(MissingExtraError, match="pip install kornia"):
        make_engine("kornia", CPU)


@pytest.mark.gpu
def test_the_same_on_cuda(kornia_engine: Any) -> None:
    images, params = photos(), params_of("affine", 0.0, 4, matrix=rotate(11.0, SIDE, SIDE))
    on_gpu = kornia_engine.finish(images.cuda(), params, LEVELS).cpu()
    assert (on_gpu.int() - kornia_engine.finish(images, params, LEVELS).int()).abs().max() <= 1
