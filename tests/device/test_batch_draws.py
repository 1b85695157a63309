"""ColOut, MixUp and CutMix: the laws of what is drawn per batch, and the keys it depends on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fastpipe.device import draw
from fastpipe.device.draws.batch import draw_colout, draw_mix, smallest, symmetric_beta
from fastpipe.errors import ArgumentError
from fastpipe.transforms import ColOut, CutMix, HorizontalFlip, MixUp, RandomChoice, RandomErasing
from fastpipe.types import Request

ALPHA = 1e-4  # per test, at fixed seeds


def request_for(batch: int = 0, num: int = 8, seed: int = 3, epoch: int = 0, rank: int = 0) -> Request:
    ids = np.arange(num)
    return Request(seed=seed, epoch=epoch, batch=batch, ids=ids, repeats=np.zeros_like(ids), rank=rank)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.25, 0.5, 1.0, 2.0, 7.5])
def test_beta_variates(alpha: float) -> None:
    numbers = np.random.default_rng(1).random((20_000, 2)).tolist()
    pairs = [symmetric_beta(alpha, first, second) for first, second in numbers]
    law = stats.beta(alpha, alpha)
    halves, upper = (np.array(column) for column in zip(*pairs, strict=True))
    if alpha >= 0.2:  # below, too many are so near to 1 that float64 has only 1 for them
        assert stats.kstest(np.where(upper, 1 - halves, halves), law.cdf).pvalue > ALPHA
    assert stats.binomtest(int(upper.sum()), len(upper)).pvalue > ALPHA
    assert stats.ks_2samp(halves[upper], halves[~upper]).pvalue > ALPHA
    # min(l, 1 - l) has twice the density below one half; near 0 it keeps its digits, so compare there too.
    assert stats.kstest(halves, lambda x: 2 * law.cdf(np.minimum(x, 0.5))).pvalue > ALPHA
    assert halves.min() >= 0.0 and halves.max() <= 0.5


@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1e6])
def test_beta_at_the_ends_of_the_unit_interval(alpha: float) -> None:
    last = math.nextafter(1.0, 0.0)
    for first in (0.0, 5e-324, 0.5, last):
        for second in (0.0, 0.25, 0.5, 0.75, last):
            half, upper = symmetric_beta(alpha, first, second)
            assert 0.0 <= half <= 0.5 and isinstance(upper, bool)


def test_colout_keeps_the_published_number_of_sorted_rows_and_columns() -> None:
    drawn = draw_colout(ColOut(p_row=0.05, p_col=0.15), request_for(), 176, 224)
    assert len(drawn.rows) == 167 and len(drawn.columns) == 190
    for kept, side in ((drawn.rows, 176), (drawn.columns, 224)):
        assert (np.diff(kept) > 0).all() and kept[0] >= 0 and kept[-1] < side
    tiny = draw_colout(ColOut(p_row=0.9, p_col=0.0), request_for(), 3, 5)
    assert len(tiny.rows) == 1 and tiny.columns.tolist() == [0, 1, 2, 3, 4]


def test_colout_drops_every_row_alike() -> None:
    dropped = np.zeros(20)
    pairs = np.zeros((20, 20))
    for batch in range(4000):
        kept = draw_colout(ColOut(p_row=0.1, p_col=0.5), request_for(batch), 20, 20).rows
        gone = np.setdiff1d(np.arange(20), kept)
        assert len(gone) == 2
        dropped[gone] += 1
        pairs[gone[0], gone[1]] += 1
    assert stats.chisquare(dropped).pvalue > ALPHA
    assert stats.chisquare(pairs[np.triu_indices(20, 1)]).pvalue > ALPHA


def test_mixup_weights_and_partners() -> None:
    drawn = [draw_mix(MixUp(0.3), request_for(batch, num=4), 8, 8) for batch in range(6000)]
    weights = np.array([mix.weight for mix in drawn])
    law = stats.beta(0.3, 0.3)
    assert weights.max() <= 0.5
    assert stats.kstest(weights, lambda x: 2 * law.cdf(np.minimum(x, 0.5))).pvalue > ALPHA
    places = {tuple(mix.partner.tolist()) for mix in drawn}
    assert len(places) == 24
    counts = np.unique([int("".join(map(str, mix.partner))) for mix in drawn], return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > ALPHA
    order = [mix.partner[0] for mix in drawn]
    assert abs(np.corrcoef(order, weights)[0, 1]) < 0.06, "partners and weight are independent"


def test_cutmix_boxes_against_the_published_rule() -> None:
    """Composer's box: sides int(side * sqrt(1 - l)), a whole-pixel centre, halves clipped at the border."""
    height, width, num = 40, 64, 3000
    ours = [draw_mix(CutMix(1.0), request_for(batch), height, width) for batch in range(num)]
    rng = np.random.default_rng(0)
    theirs = []
    for _ in range(num):
        ratio = math.sqrt(1.0 - rng.beta(1.0, 1.0))
        box_width, box_height = int(width * ratio), int(height * ratio)
        center_x, center_y = rng.integers(width), rng.integers(height)
        left, right = np.clip([center_x - box_width // 2, center_x + box_width // 2], 0, width)
        top, bottom = np.clip([center_y - box_height // 2, center_y + box_height // 2], 0, height)
        theirs.append((top, left, bottom - top, right - left))
    regions = np.array([mix.region for mix in ours])
    for column, name in enumerate(("top", "left", "height", "width")):
        assert stats.ks_2samp(regions[:, column], np.array(theirs)[:, column]).pvalue > 1e-3, name
    areas = np.array([mix.weight for mix in ours])
    np.testing.assert_allclose(areas, regions[:, 2] * regions[:, 3] / (height * width), rtol=1e-6)
    assert (regions[:, 0] + regions[:, 2]).max() <= height and (regions[:, 1] + regions[:, 3]).max() <= width
    assert all(mix.pixel_weight == 1.0 for mix in ours)


@pytest.mark.parametrize("p", [None, (0.9, 0.1), (0.0, 1.0)])
def test_choice_frequencies(p: Any) -> None:
    spec = RandomChoice([MixUp(0.2), CutMix(1.0)], p=p)
    drawn = [draw_mix(spec, request_for(batch), 8, 8).region is None for batch in range(3000)]
    assert stats.binomtest(sum(drawn), 3000, 0.5 if p is None else p[0]).pvalue > ALPHA


@pytest.mark.parametrize("other", [dict(seed=4), dict(epoch=1), dict(batch=1), dict(rank=1)], ids=str)
def test_batch_draws_depend_on_their_key(other: dict[str, int]) -> None:
    steps = (ColOut(p_row=0.3, p_col=0.3), MixUp(1.0))
    base = draw(steps, request_for(num=50), 60, 60)
    again = draw(steps, request_for(num=50), 60, 60)
    changed = draw(steps, request_for(num=50, **other), 60, 60)
    assert base.mix is not None and again.mix is not None and changed.mix is not None
    assert base.colout is not None and again.colout is not None and changed.colout is not None
    assert base.mix.weight == again.mix.weight != changed.mix.weight
    np.testing.assert_array_equal(base.mix.partner, again.mix.partner)
    np.testing.assert_array_equal(base.colout.rows, again.colout.rows)
    assert not np.array_equal(base.mix.partner, changed.mix.partner)
    assert not np.array_equal(base.colout.rows, changed.colout.rows)
    assert not np.array_equal(base.colout.columns, changed.colout.columns)


def test_batch_draws_do_not_depend_on_the_ids_and_image_draws_not_on_the_rank() -> None:
    steps = (HorizontalFlip(), ColOut(), MixUp(1.0))
    base = draw(steps, request_for(num=50), 30, 30)
    rank = draw(steps, request_for(num=50, rank=1), 30, 30)
    np.testing.assert_array_equal(base.flip, rank.flip)
    ids = np.arange(50) + 1000
    moved = Request(seed=3, epoch=0, batch=0, ids=ids, repeats=np.zeros_like(ids))
    other = draw(steps, moved, 30, 30)
    assert base.mix is not None and other.mix is not None and base.mix.weight == other.mix.weight
    assert not np.array_equal(base.flip, other.flip)


def test_later_steps_are_drawn_in_the_shrunk_image() -> None:
    steps = (ColOut(p_row=0.5, p_col=0.75), RandomErasing(p=1.0), CutMix(1.0))
    for batch in range(100):
        params = draw(steps, request_for(batch), 40, 40)
        assert params.erasing is not None and params.mix is not None and params.mix.region is not None
        boxes = params.erasing.boxes
        assert (boxes[:, 0] + boxes[:, 2]).max() <= 20 and (boxes[:, 1] + boxes[:, 3]).max() <= 10
        top, left, height, width = params.mix.region
        assert top + height <= 20 and left + width <= 10


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MixUp(math.nan), "alpha must be a finite number above 0. Found: nan"),
        (lambda: MixUp(0.0), "alpha must be"),
        (lambda: CutMix(-1.0), "alpha must be a finite number above 0. Found: -1.0"),
        (lambda: CutMix(math.inf), "alpha must be"),
        (lambda: ColOut(p_row=-0.1), r"p_row must be a share in \[0, 1\). Found: -0.1"),
        (lambda: ColOut(p_col=1.0), "p_col must be"),
        (lambda: ColOut(p_col=math.nan), "p_col must be"),
        (lambda: RandomChoice([]), "options must be at least one MixUp or CutMix"),
        (lambda: RandomChoice([MixUp(1.0), ColOut()]), "options must be"),  # type: ignore[list-item]
        (lambda: RandomChoice([MixUp(1.0)], p=[0.5]), "p must contain one probability for each of the 1 opt"),
        (lambda: RandomChoice([MixUp(1.0), CutMix(1.0)], p=[1.0]), "p must contain one probability"),
        (lambda: RandomChoice([MixUp(1.0), CutMix(1.0)], p=[1.5, -0.5]), "p must be a probability"),
        (lambda: RandomChoice([MixUp(1.0), CutMix(1.0)], p=[math.nan, 1.0]), "p must be a probability"),
    ],
)
def test_bad_settings(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()


@pytest.mark.parametrize(
    ("numbers", "num", "places"),
    [
        ([0.5, 0.5, 0.1], 2, [0, 2]),
        ([0.5, 0.1, 0.5, 0.5], 3, [0, 1, 2]),
        ([0.25] * 4, 1, [0]),
        ([0.4, 0.1, 0.3, 0.2], 2, [1, 3]),
    ],
)
def test_equal_numbers_at_the_limit_never_push_out_a_smaller_one(
    numbers: list[float], num: int, places: list[int]
) -> None:
    assert smallest(np.array(numbers), num).tolist() == places
