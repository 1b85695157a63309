"""Extrapolated time to train, against the formula written out; money and energy."""

from __future__ import annotations

import pytest

from fastpipe.efficiency.durations import extrapolated_time_to_train
from fastpipe.errors import ArgumentError
from fastpipe.train.cli import parse
from fastpipe.train.config.options import Options
from fastpipe.train.cost import cost_record, extrapolation_record


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


def test_measured_and_extrapolated_are_told_apart() -> None:
    found = extrapolation_record([30.0, 10.0, 12.0], 90)["extrapolation"]
    assert (found["measured_epochs"], found["measured_time_to_train_s"]) == (3, 32.0)
    assert (found["extrapolated_epochs"], found["extrapolated_time_to_train_s"]) == (90, 960.0)
    assert "ours" in found["formula"]


def test_cost_and_energy_only_where_price_and_power_are_given() -> None:
    assert cost_record(1800.0, Options(price_per_hour=30.0, watts=500.0)) == {
        "cost": 15.0,
        "energy_kwh": 0.25,
    }
    assert cost_record(1800.0, Options()) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--extrapolate-from", "10"), "progressive_resizing.*--progressive-resizing null"),
        (("--extrapolate-from", "1"), "extrapolate-from must be at least 2.*Found: 1"),
        (("--extrapolate-from", "36"), "below the run's 36 epochs. Found: 36"),
        (("--price-per-hour", "0"), "price-per-hour must be a number above 0. Found: 0.0"),
        (("--watts", "-5"), "watts must be a number above 0. Found: -5"),
        (("--seeds", "1"), "seeds must be at least 2, to have a spread. Found: 1"),
        (("--seeds", "2", "--nproc", "2"), "Leave out --nproc"),
        (("--seeds", "2", "--resume", "last.ckpt"), "--resume with --seeds must be auto.*'last.ckpt'"),
    ],
)
def test_options_that_do_not_fit_are_refused(args: tuple[str, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse(args)
