"""What-if words, conditions and past predictions: read, refused, and worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.profiling import names
from fastpipe.profiling.conclude.history import Checked, history_path, past_errors, remember
from fastpipe.profiling.conclude.predict import Basis, Change, predict_loader, predict_training, scaled
from fastpipe.profiling.conclude.scaling import fit
from fastpipe.profiling.conclude.verdict import StageCost
from fastpipe.profiling.conclude.whatif import answer, parse
from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.report.failing import parse_condition


def basis(*, demand: float = 1e4, shared: bool = False) -> Basis:
    """decode 2 ms, crop 1 ms, device stage 0.1 ms; workers that scale without loss."""
    costs = (
        StageCost(id=names.DECODE, lane="worker", wall_ms=2.0, cpu_ms=2.0),
        StageCost(id=names.CROP, lane="worker", wall_ms=1.0, cpu_ms=1.0),
        StageCost(id=names.DEVICE, lane="main", wall_ms=0.01, cpu_ms=0.0),
        StageCost(
            id=names.MODEL, lane="model", wall_ms=1000 / demand, cpu_ms=2000 / demand if shared else 0.0
        ),
    )
    return Basis(
        costs=costs,
        curve=fit({1: [300.0] * 4, 2: [600.0] * 4}),
        cpus=2.0,
        workers=2,
        shared=shared,
        together=Spread(median=600.0, low=600.0, high=600.0),
        loader_cpu_ms=3.3,
    )


def test_the_issues_own_question_is_answered_by_hand() -> None:
    question = parse("cpus=96 gpus=8 gpu=a100 recipe=hot randaugment=host")
    found = answer(question, basis(), pillow_ms=3.0, device_ms=0.1)
    # 12 CPUs a rank at 300 images/s each; RandAugment in the workers doubles the 3 ms of an image.
    assert found.loader.median == pytest.approx(8 * 12 * 300 / 2, rel=1e-6)
    assert found.demand == pytest.approx(14388)
    assert found.bound == "GPUs" and found.images_per_s.median == pytest.approx(14388)
    assert found.cpus_needed == pytest.approx(96 * 14388 / 14400)
    assert any("Oracle" in text and "its CPUs may have limited" in text for text in found.assumptions)


def test_randaugment_on_the_device_costs_a_gpu_machines_cpus_nothing() -> None:
    def loader(place: str) -> float:
        question = parse(f"cpus=16 gpu=a100 recipe=mild randaugment={place}")
        return answer(question, basis(), pillow_ms=1.5, device_ms=0.5).loader.median

    assert loader("device") == pytest.approx(loader("none")) == pytest.approx(1.5 * loader("host"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("cpu=96", "Did you mean 'cpus'?"),
        ("cpus=many", "cpus must be a number above 0. Found: 'many'"),
        ("cpus=-4", "cpus must be a number above 0"),
        ("gpus=1.5", "gpus must be a whole number"),
        ("gpu=a1000", "gpu must be one of a100. Found: 'a1000'. Did you mean 'a100'?"),
        ("recipe=hott gpu=a100", "Did you mean 'hot'?"),
        ("randaugment=gpu", "randaugment must be one of device, host, none"),
        ("cpus=4 cpus=8", "cpus twice"),
        ("cpus", "words like cpus=96"),
        ("", "at least one of"),
    ],
)
def test_wrong_words_say_what_is_allowed(words: str, says: str) -> None:
    with pytest.raises(ArgumentError) as error:
        parse(words)
    assert says in str(error.value)


def test_a_recipe_without_a_gpu_has_no_demand() -> None:
    with pytest.raises(ArgumentError, match="recipe also needs gpu"):
        answer(parse("recipe=hot"), basis(), pillow_ms=1.0, device_ms=1.0)


def test_changed_costs_change_the_measured_rate_by_their_ratio() -> None:
    found = predict_loader(basis(), Change(costs=scaled(basis().costs, {names.DECODE: 0.5})))
    assert found.median == pytest.approx(600 * 3 / 2)
    assert predict_loader(basis()).median == pytest.approx(600)


def test_workers_beyond_the_cpus_bring_nothing() -> None:
    assert predict_loader(basis(), Change(workers=16)).median == pytest.approx(600)
    assert predict_loader(basis(), Change(workers=16, cpus=4)).median == pytest.approx(1200)


def test_training_never_exceeds_the_demand() -> None:
    assert predict_training(basis(demand=450.0)).median == pytest.approx(450.0)


@pytest.mark.parametrize("shared", [False, True])
def test_a_prediction_is_as_wide_as_the_machines_speed_scatters(shared: bool) -> None:
    """Measured without any spread at 600 images/s, on a machine whose speed has a log deviation of 0.1."""
    start = replace(basis(demand=1e6, shared=shared), scatter=0.1)
    for found in (predict_training(start), predict_loader(start)):
        assert found.median == pytest.approx(600)
        assert (found.low, found.high) == pytest.approx((600 * math.exp(-0.196), 600 * math.exp(0.196)))


def test_a_demand_that_was_given_does_not_scatter() -> None:
    found = predict_training(replace(basis(demand=500.0), scatter=0.2))
    assert (found.median, found.high) == pytest.approx((500, 500))
    assert found.low == pytest.approx(600 * math.exp(-1.96 * 0.2))


def test_on_shared_cpus_a_cheaper_decode_leaves_more_for_the_model() -> None:
    start = basis(demand=250.0, shared=True)
    faster = predict_training(start, Change(costs=scaled(start.costs, {names.DECODE: 0.0})))
    assert faster.median == pytest.approx(600 * (3 + 8) / (1 + 8))


def test_conditions_hold_or_not() -> None:
    assert parse_condition("stall>5%").holds({"stall": 6.0})
    assert not parse_condition("stall > 5 %").holds({"stall": 5.0})
    assert parse_condition("images_per_s<=2000").holds({"images_per_s": 2000.0})


@pytest.mark.parametrize("wrong", ["stall>5", "stal>5%", "stall=5%", "images_per_s<20%", "stall>1.2.3%", ""])
def test_a_condition_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ArgumentError, match="fail_if"):
        parse_condition(wrong)


def test_a_condition_on_what_was_not_measured_is_no_pass() -> None:
    with pytest.raises(ArgumentError, match="was not measured"):
        parse_condition("prediction_error>20%").holds({"prediction_error": None})


def test_predictions_are_kept_and_broken_lines_left_out(tmp_path: Path) -> None:
    one = Checked(fix="2 workers", predicted=110.0, low=100.0, high=120.0, measured=105.0)
    assert past_errors(str(tmp_path)) == []
    remember([one], str(tmp_path))
    with history_path(str(tmp_path)).open("a") as file:
        file.write("no json\n[1]\n")
    remember([one, one], str(tmp_path))
    found = past_errors(str(tmp_path))
    assert len(found) == 3 and all(entry.when for entry in found)
    assert found[0].error == pytest.approx(110 / 105 - 1) and found[0].inside
