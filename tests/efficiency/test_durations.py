"""Time to train by both rules, on hand-made epochs and on MosaicML's own logs."""

from collections import defaultdict

import pytest

from fastpipe.efficiency.durations import (
    extrapolated_time_to_train,
    extrapolation_error,
    mlperf_score,
    mlperf_time,
    time_to_train,
)
from fastpipe.efficiency.published import curve_rows
from fastpipe.errors import ArgumentError


def epochs_of(recipe: str) -> list[list[float]]:
    found = defaultdict(list)
    for row in curve_rows("mlperf_v20_epoch_times"):
        if row["recipe"] == recipe:
            found[row["run"]].append(float(row["seconds"]))
    return list(found.values())


def stops_of(system: str) -> list[float]:
    last = {
        row["run"]: float(row["minutes_since_run_start"])
        for row in curve_rows("mlperf_v20_curves")
        if row["system"] == system
    }
    return list(last.values())


def test_the_text_prints_23_8_minutes_which_are_21_0_by_its_own_rule():
    runs = epochs_of("methods")
    assert [len(run) for run in runs] == [27] * 5
    assert runs[0][0] == 159.08 and runs[0][1] == 39.1
    assert mlperf_score(stops_of("8xA100_80GB-methods")) == pytest.approx(23.789, abs=5e-4)
    assert mlperf_score([time_to_train(run) / 60 for run in runs]) == pytest.approx(20.97, abs=0.005)


def test_mlperf_counts_the_first_epoch_and_every_evaluation():
    assert mlperf_time([100.0, 10.0, 12.0], [5.0, 2.0, 3.0]) == 132.0
    assert time_to_train([100.0, 10.0, 12.0]) == 32.0


def test_mlperf_stops_at_the_first_evaluation_that_reaches_the_target():
    epochs, evaluations, qualities = [100.0, 10.0, 12.0], [5.0, 2.0, 3.0], [0.5, 0.76, 0.7]
    assert mlperf_time(epochs, evaluations, qualities, 0.76) == 117.0
    assert mlperf_time(epochs, evaluations, qualities, 0.77) is None


def test_the_score_leaves_out_the_fastest_and_the_slowest():
    assert mlperf_score([9.0, 1.0, 4.0, 5.0, 6.0]) == 5.0
    with pytest.raises(ArgumentError, match="at least 3 runs"):
        mlperf_score([1.0, 2.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "validation_seconds must hold 2"),
        (([1.0], [1.0], None, 0.7), "qualities must hold 1"),
        (([1.0], [1.0], [0.1, 0.2], 0.7), "Found: 2"),
    ],
)
def test_sequences_that_do_not_match_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        mlperf_time(*arguments)


def test_the_error_of_an_extrapolation_is_measured_on_complete_runs():
    alike = [50.0] + [10.0] * 29
    assert extrapolation_error(alike) == pytest.approx(0.0)
    assert extrapolation_error([10.0] * 10 + [20.0] * 10) == pytest.approx(200 / 300 - 1)
    # Epochs of the baseline are alike; progressive resizing makes the first ten too short.
    assert all(abs(extrapolation_error(run)) < 0.01 for run in epochs_of("baseline"))
    assert all(extrapolation_error(run) < -0.1 for run in epochs_of("methods"))
    for measured in (1, 31):
        with pytest.raises(ArgumentError, match=r"in 2\.\.30"):
            extrapolation_error(alike, measured)


def test_an_extrapolation_needs_two_epochs():
    with pytest.raises(ArgumentError, match="2 to 90"):
        extrapolated_time_to_train([1.0], 90)
