"""Operations within the output pass: the same bytes as one pass after another, however images are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastpipe import kernels
from fastpipe.kernels import chain

NUM, HEIGHT, WIDTH, DEPTH = 23, 19, 26, 3
TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(params=[1, 4, 1000], ids=lambda images: f"{images} images a chunk", autouse=True)
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_CHUNK_BYTES", request.param * HEIGHT * WIDTH * 3)


def draws(seed: int = 1) -> tuple[torch.Tensor, kernels.Operations, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images = np.clip(rng.normal(110, 45, (NUM, HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    ops = rng.integers(0, len(kernels.OPS), (NUM, DEPTH))
    values = rng.uniform(0.1, 1.9, (NUM, DEPTH))
    for name, low, high in (("posterize", 1, 9), ("solarize_add", 0, 111), ("solarize", 0, 257)):
        chosen = ops == kernels.OPS[name]
        values[chosen] = rng.integers(low, high, chosen.sum())
    matrices = np.tile(np.array([1.0, 0, 0, 0, 1, 0]), (NUM, DEPTH, 1))
    matrices += rng.uniform(-0.3, 0.3, matrices.shape) * [1, 1, 9, 1, 1, 9]
    fills, modes = rng.integers(0, 256, (NUM, 3)), rng.integers(0, 2, (NUM, DEPTH))
    flip = torch.from_numpy(rng.random(NUM) < 0.5)
    return torch.from_numpy(images), kernels.Operations(ops, values, matrices, fills, modes), flip


def one_by_one(images: torch.Tensor, operations: kernels.Operations, flip: torch.Tensor) -> torch.Tensor:
    o = operations
    return kernels.augment_batch(images, o.ops, o.values, o.matrices, o.fills, o.interpolations, flip=flip)


PICKS: list[dict[str, Any]] = [
    {},
    {"rows": np.array([0, 1, 5, 18]), "columns": np.array([2, 3, 4, 25])},
]


def new_out(picks: dict[str, Any], dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    shape = (NUM, 3, len(picks["rows"]), len(picks["columns"])) if picks else (NUM, 3, HEIGHT, WIDTH)
    return torch.empty(shape, dtype=dtype, memory_format=layout)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("picks", PICKS, ids=["all", "picked"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_finish(dtype: torch.dtype, layout: torch.memory_format, picks: Any, num_threads: int) -> None:
    images, operations, flip = draws()
    kept = images.clone()
    table = None if dtype == torch.uint8 else TABLE
    expected = kernels.finish(
        one_by_one(images, operations, flip), new_out(picks, dtype, layout), table, **picks
    )
    ours = kernels.finish(
        images,
        new_out(picks, dtype, layout),
        table,
        flip=flip,
        operations=operations,
        num_threads=num_threads,
        **picks,
    )
    assert torch.equal(ours, expected)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("picks", PICKS, ids=["all", "picked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("partners", ["permutation", "any"])
def test_mix(dtype: torch.dtype, picks: Any, num_threads: int, partners: str) -> None:
    images, operations, flip = draws(2)
    rng = np.random.default_rng(3)
    partner = rng.permutation(NUM) if partners == "permutation" else rng.integers(0, NUM, NUM)
    layout = torch.channels_last if num_threads == 3 else torch.contiguous_format
    augmented = one_by_one(images, operations, flip)
    expected = kernels.mix(augmented, new_out(picks, dtype, layout), TABLE, partner, 0.3, **picks)
    ours = kernels.mix(
        images,
        new_out(picks, dtype, layout),
        TABLE,
        partner,
        0.3,
        flip=flip,
        operations=operations,
        num_threads=num_threads,
        **picks,
    )
    assert torch.equal(ours, expected)


def test_wrong_operations_are_refused() -> None:
    images, operations, _ = draws()
    wrong = kernels.Operations(np.full((NUM, 1), 99), np.zeros((NUM, 1)))
    with pytest.raises(ValueError, match=r"ops must be codes of OPS.*Found: 99"):
        kernels.finish(images, torch.empty(NUM, 3, HEIGHT, WIDTH), TABLE, operations=wrong)
    short = kernels.Operations(np.asarray(operations.ops)[:5], operations.values)
    with pytest.raises(ValueError, match=r"ops must be integers \[23, D\]"):
        kernels.mix(images, torch.empty(NUM, 3, HEIGHT, WIDTH), TABLE, np.arange(NUM), 0.2, operations=short)
