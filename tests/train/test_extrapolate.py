"""Extrapolated time to train, against the formula written out."""

from __future__ import annotations

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.train.extrapolate import extrapolated_time_to_train


def test_formula() -> None:
    """Ten epochs, the first slow: (t2 + sum(t2..t10)) / 10 * 600 with sum(t2..t10) = 9 * 20 + 36."""
    seconds = [500.0, *(20.0 + n for n in range(9))]
    assert extrapolated_time_to_train(seconds, 600) == pytest.approx((20.0 + 216.0) / 10 * 600)


def test_all_epochs_measured_is_time_to_train() -> None:
    assert extrapolated_time_to_train([9.0, 2.0, 3.0], 3) == 2.0 + 2.0 + 3.0


@pytest.mark.parametrize("seconds", [[], [1.0], [1.0] * 5])
def test_too_few_or_too_many(seconds: list[float]) -> None:
    with pytest.raises(ArgumentError, match=f"2 to 4 epochs.*Found: {len(seconds)}"):
        extrapolated_time_to_train(seconds, 4)
