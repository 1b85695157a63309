"""The experiments: published figures, command lines that parse, plans and their refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fastpipe.efficiency.prices import SHIPPED, read_prices
from fastpipe.errors import ArgumentError
from fastpipe.train.cli import main, parse
from fastpipe.train.studies.catalogue import EXPERIMENTS, experiment
from fastpipe.train.studies.design import Arm, Scale, published
from fastpipe.train.studies.estimate import IMAGES, seconds_of
from fastpipe.train.studies.loading import predicted_rates
from fastpipe.train.studies.scale import planned

# Typed from the tables of the text, and not read from the file that the code reads.
PRINTED = {
    "table2": {"depth-0": 15422, "depth-1": 12597, "depth-2": 11108},
    "table3": {"mild-oracle": 22242, "mild-aws": 21582, "hot-oracle": 14388, "hot-aws": 9225},
    "table4": {
        "cutmix-180": (78.85, 279),
        "mixup-180": (79.56, 242),
        "cutmix-540": (80.21, 932),
        "mixup-540": (80.69, 880),
    },
    "table5": {"both": (75.91, 18043), "mixup": (76.04, 18527), "smoothing": (76.33, 19086)},
    "table6": {
        "alpha-0.25-450": (80.78, 573),
        "alpha-1.0-450": (79.69, 543),
        "alpha-0.25-810": (81.03, 980),
        "alpha-1.0-810": (80.22, 1008),
    },
    "table7": {
        "every-5-180": (79.86, 254),
        "every-10-180": (79.86, 237),
        "every-5-450": (80.78, 573),
        "every-10-450": (80.69, 532),
    },
    "table8": {
        "bce-plain-36": (75.91,),
        "cross-entropy-36": (76.29,),
        "bce-bias-36": (76.75,),
        "bce-plain-90": (78.34,),
        "cross-entropy-90": (78.60,),
        "bce-bias-90": (79.1,),
    },
}


@pytest.mark.parametrize("name", PRINTED)
def test_published_figures_are_the_printed_ones(name: str) -> None:
    for arm, expected in PRINTED[name].items():
        point = EXPERIMENTS[name].point(EXPERIMENTS[name].arm(arm))
        figures = [published(point, metric) for metric in ("top1", "minutes", "images_per_s")]
        found = tuple(figure for figure in figures if figure is not None)
        assert found == (expected if isinstance(expected, tuple) else (expected,))
    assert len(PRINTED[name]) == len(EXPERIMENTS[name].arms)


@pytest.mark.parametrize(
    ("name", "scale"), [*((name, "imagenet") for name in EXPERIMENTS), ("table5", "small")]
)
def test_every_run_is_a_command_line_that_fastpipe_train_takes(name: str, scale: Scale) -> None:
    """And does what its arm says: an option that a recipe overrides silently would compare equals."""
    seen = {}
    for run in planned(EXPERIMENTS[name], scale, seeds=1):
        if run.timed:
            continue
        asked = parse(run.argv("demo", Path("x")))
        assert asked.config.epochs == run.epochs and asked.config.seed == 1
        assert asked.options.resume == "auto"
        config = dataclasses.replace(asked.config, output_dir=None)
        if run.arm.hardware is None:
            assert config not in seen.values(), f"{run.arm.name} is the same run as another arm"
        seen[run.arm.name] = config
    if name == "table2" and scale == "imagenet":
        assert [c.randaugment and c.randaugment.depth for c in seen.values()] == [None, 1, 2]
    if name == "table7":
        assert {c.sam.interval for c in seen.values() if c.sam} == {5, 10}
    if name == "table4":
        assert {(c.mixup_alpha, c.cutmix_alpha) for c in seen.values()} == {(0.25, 0.0), (0.0, 1.0)}


def test_seeds_come_one_after_the_other() -> None:
    runs = planned(EXPERIMENTS["table8"], "small", seeds=2, only=["bce-bias-36", "bce-plain-36"])
    assert [run.name for run in runs] == [
        "bce-plain-36/seed-1",
        "bce-bias-36/seed-1",
        "bce-plain-36/seed-2",
        "bce-bias-36/seed-2",
    ]


def test_estimates_at_the_texts_scale_are_its_own_figures() -> None:
    table4, figure = EXPERIMENTS["table4"], EXPERIMENTS["figure1"]
    run = next(run for run in planned(table4, "imagenet") if run.arm.name == "mixup-180")
    assert seconds_of(table4, run, "imagenet", 0, 2.0) == 242 * 60
    ten = next(run for run in planned(figure, "imagenet") if run.arm.name == "timm_a2-300")
    assert seconds_of(figure, ten, "imagenet", 0, 2.0) == pytest.approx(501 * 60 / 300 * 10)
    mild = next(run for run in planned(figure, "imagenet") if run.arm.name == "mild-36")
    assert seconds_of(figure, mild, "imagenet", 0, 2.0) == pytest.approx(36 * IMAGES / 19086)


def test_small_tables_take_at_most_an_hour_for_each_seed_and_six_in_all() -> None:
    hours = {}
    for name, one in EXPERIMENTS.items():
        runs = planned(one, "small", seeds=1)
        hours[name] = sum(seconds_of(one, run, "small", 3068, 2.0) for run in runs) / 3600
    assert max(hours.values()) <= 1.0
    assert 3 * sum(value for name, value in hours.items() if name != "figure1") <= 6.0


def test_rates_follow_from_the_lower_of_gpus_and_cpus() -> None:
    """Worked by hand: depth 1 is limited by its CPUs at 12597, so 5 ms give 12597 * 4.5 / 5, 4 ms 14171.6."""
    found = predicted_rates(EXPERIMENTS["table2"], {"depth-0": 4.0, "depth-1": 4.5, "depth-2": 5.0})
    assert found == pytest.approx({"depth-0": 14171.625, "depth-1": 12597.0, "depth-2": 11337.3})
    idle = predicted_rates(EXPERIMENTS["table2"], {"depth-0": 1.0, "depth-1": 4.5, "depth-2": 5.0})
    assert idle["depth-0"] == 15422.0  # the GPUs take no more


def test_cores_of_the_other_machine_set_its_rate() -> None:
    spent = {"mild-oracle": 1.0, "mild-aws": 1.0, "hot-oracle": 5.0, "hot-aws": 5.0}
    found = predicted_rates(EXPERIMENTS["table3"], spent)
    assert found["hot-aws"] / found["hot-oracle"] == pytest.approx(48 / 64)
    assert found["mild-aws"] == found["mild-oracle"] == 22242.0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["tabel4", "--scale", "small", "--data", "demo"], "Did you mean 'table4'?"),
        (["table4", "--scale", "small", "--data", "demo", "--seeds", "0"], "--seeds must be at least 1"),
        (
            ["table4", "--scale", "small", "--data", "demo", "--only", "mixup"],
            "--only must name runs of table4",
        ),
        (["figure1", "--scale", "small", "--data", "demo", "--only", "timm_a1-600"], "at scale small"),
    ],
)
def test_wrong_arguments(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *args]) == 2
    assert message in capsys.readouterr().err


def test_the_plan_names_commands_time_and_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "studies"
    args = [
        "study",
        "table4",
        "--scale",
        "imagenet",
        "--data",
        "/imagenet",
        "--output",
        str(out),
        "--nproc",
        "8",
    ]
    assert main([*args, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "mixup-180/seed-1: 4 h 02 min (published: MosaicML Hot Prototype + MixUp, Table 4)" in text
    assert "--mixup-alpha 0 --cutmix-alpha 1.0" in text and "--nproc 8" in text
    hours = 3 * (242 + 279 + 880 + 932) / 60
    assert f"${hours * read_prices(SHIPPED)[0].usd_per_hour:,.0f}" in text
    assert not out.exists()
    assert main([*args, "--dry-run", "--hardware", "my box"]) == 0
    assert "the price table does not know 'my box'" in capsys.readouterr().out


def test_a_row_that_is_not_published_is_refused() -> None:
    table = EXPERIMENTS["table4"]
    wrong = Arm(name="x", recipe="hot", epochs=181, small=1, row="MosaicML Hot Prototype + MixUp")
    with pytest.raises(ArgumentError, match="one published row of Table 4"):
        dataclasses.replace(table, arms=[wrong], comparisons=[])


def test_unknown_experiments_are_named() -> None:
    with pytest.raises(ArgumentError, match="study must be one of table2, table3"):
        experiment("table1")


@pytest.mark.parametrize("words", [("--prices", "mine.csv"), ("--hardware", "my box")])
@pytest.mark.parametrize("mode", [(), ("--report",)])
def test_prices_that_nothing_reads_are_refused(
    words: tuple[str, str], mode: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["study", "table8", "--scale", "small", "--data", "demo", "--output", str(tmp_path)]
    assert main([*args, *mode, *words]) == 2
    assert f"{words[0]} counts with --dry-run alone" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
