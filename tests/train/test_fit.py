"""Fitting to small data: the numbers of contract 11, and who wins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.train import load_recipe
from fastpipe.train.config.fit import fit_to_data, fitted_batch_size

MILD = load_recipe("mild")
SHORT = replace(MILD, epochs=8)


@pytest.mark.parametrize(
    ("images", "batch"), [(2400, 64), (3068, 64), (1920, 64), (1919, 32), (60, 2), (5, 2), (1_281_167, 2048)]
)
def test_batch_is_the_largest_power_of_two_with_thirty_steps(images: int, batch: int) -> None:
    assert fitted_batch_size(images, 2048) == batch
    if 60 <= images < 2048 * 30:
        assert images // batch >= 30 > images // (2 * batch)


def test_the_demo_by_hand() -> None:
    """2400 images: batch 64, 37 steps an epoch, 296 in all; 5 % of them are 14, a fifth of those 2."""
    fitted = fit_to_data(SHORT, 2400)
    assert fitted.changes == {
        "batch_size": (2048, 64),
        "optimizer.lr": (2.048, 0.064),
        "schedule.warmup_epochs": (8.0, 0.8),
        "ema.half_life_batches": (100, 14),
        "ema.update_interval": (20, 2),
    }
    assert fitted.config.batch_size == 64 and fitted.config.fit_to_data is False


def test_long_training_keeps_warmup_and_average() -> None:
    """90 epochs of 37 steps: 10 % are 9 epochs and 5 % are 166 steps, so the recipe's 8 and 100 stay."""
    fitted = fit_to_data(replace(MILD, epochs=90), 2400)
    assert set(fitted.changes) == {"batch_size", "optimizer.lr"}


def test_explicit_values_win_and_the_rest_follows_them() -> None:
    explicit = {"batch_size", "schedule.warmup_epochs", "ema.half_life_batches"}
    config = replace(
        SHORT,
        batch_size=128,
        schedule=replace(SHORT.schedule, warmup_epochs=2.0),
        ema=replace(SHORT.ema, half_life_batches=50),
    )
    fitted = fit_to_data(config, 2400, explicit=explicit, recipe_batch_size=2048)
    assert fitted.changes == {"optimizer.lr": (2.048, 0.128), "ema.update_interval": (20, 10)}


def test_a_small_batch_by_hand_still_gets_its_rate() -> None:
    """Batch 16 gives 150 steps an epoch; the rate made for 2048 would be 128 times too large for it."""
    fitted = fit_to_data(replace(SHORT, batch_size=16), 2400, explicit={"batch_size"}, recipe_batch_size=2048)
    assert fitted.changes["optimizer.lr"] == (2.048, 0.016)
    assert "batch_size" not in fitted.changes


def test_an_explicit_rate_is_not_scaled() -> None:
    config = replace(SHORT, optimizer=replace(SHORT.optimizer, lr=0.5))
    fitted = fit_to_data(config, 2400, explicit={"optimizer.lr"})
    assert fitted.config.optimizer.lr == 0.5 and fitted.config.batch_size == 64


def test_automatic_only_below_twenty_steps() -> None:
    assert "batch_size" in fit_to_data(MILD, 2048 * 20 - 1).changes
    assert fit_to_data(MILD, 2048 * 20).changes == {}
    assert fit_to_data(replace(MILD, fit_to_data=False), 2400).changes == {}
    forced = fit_to_data(replace(MILD, fit_to_data=True), 2048 * 25)
    assert forced.config.batch_size == 1024


def test_on_a_large_data_set_even_forced_fitting_keeps_the_recipe() -> None:
    fitted = fit_to_data(replace(MILD, epochs=90, fit_to_data=True), 1_281_167)
    assert fitted.changes == {}


def test_a_warmup_longer_than_training_is_an_error_only_when_asked_for() -> None:
    short = replace(MILD, epochs=4)
    fitted = fit_to_data(short, 1_281_167)
    assert fitted.changes == {"schedule.warmup_epochs": (8.0, 0.4)}
    with pytest.raises(ArgumentError, match=r"warmup_epochs.*4 epochs.*Found: 8"):
        fit_to_data(short, 1_281_167, explicit={"schedule.warmup_epochs"})


def test_without_an_average_there_is_nothing_to_shorten() -> None:
    fitted = fit_to_data(replace(SHORT, ema=None), 2400)
    assert fitted.config.ema is None and "ema.half_life_batches" not in fitted.changes
