"""Two reports side by side: what differs, what changed, what is noise, and what is no report."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling.cli import main
from fastpipe.profiling.commands.diff import compare_reports


def stage(name: str, median: float, low: float, high: float) -> dict[str, Any]:
    cost = {"median": 1000 / median, "low": 1000 / high, "high": 1000 / low}
    rate = {"median": median, "low": low, "high": high}
    return {"name": name, "lane": "worker", "what": "", "images_per_s": rate, "cpu_ms_per_image": cost}


def report(**changes: Any) -> dict[str, Any]:
    found = {
        "schema_version": 1,
        "created": "2026-11-25T00:00:00Z",
        "host": {"cpu": "Imagined", "torch": "2.14.1", "gpu": None},
        "data": {"name": "demo", "files": 10},
        "workload": {"model": "resnet18", "workers": 2},
        "stages": [stage("read", 1000, 900, 1100), stage("decode", 300, 290, 310)],
        "together": [stage("loader + model", 50, 45, 55)],
        "verdict": {"bottleneck": "decode"},
    }
    return {**found, **changes}


def write(path: Path, values: Any) -> str:
    path.write_text(json.dumps(values) if not isinstance(values, str) else values, encoding="utf-8")
    return str(path)


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    found = compare_reports(before, after)
    return {row["name"]: row["verdict"] for row in (*found["stages"], *found["together"])}


def test_overlapping_intervals_are_noise_and_others_a_change() -> None:
    after = report(stages=[stage("read", 1150, 1050, 1200), stage("decode", 600, 590, 610)])
    found = compare_reports(report(), after)
    assert verdicts(report(), after) == {
        "read": "within noise",
        "decode": "changed",
        "loader + model": "within noise",
    }
    assert {row["name"]: row["ratio"] for row in found["stages"]} == {"read": 1.15, "decode": 2.0}


def test_touching_intervals_overlap_and_a_slower_stage_is_a_change_too() -> None:
    after = report(stages=[stage("read", 1105, 1100, 1200), stage("decode", 150, 140, 160)])
    assert verdicts(report(), after)["read"] == "within noise"
    assert verdicts(report(), after)["decode"] == "changed"


def test_95_percent_intervals_decide_where_both_have_them() -> None:
    def with_interval(low: float, high: float) -> dict[str, Any]:
        row = stage("read", 1000, 990, 1010)
        return report(stages=[{**row, "images_per_s_interval": {"median": 1000, "low": low, "high": high}}])

    after = with_interval(1050, 1200)
    after["stages"][0]["images_per_s"] = {"median": 1100, "low": 1090, "high": 1110}  # quartiles, apart
    assert verdicts(with_interval(900, 1060), after)["read"] == "within noise"
    assert verdicts(with_interval(900, 1040), after)["read"] == "changed"
    assert verdicts(report(stages=[stage("read", 1000, 990, 1010)]), after)["read"] == "changed"


def test_a_stage_of_one_report_only_is_said() -> None:
    after = report(stages=[stage("read", 1000, 900, 1100), stage("resize", 5, 4, 6)])
    assert verdicts(report(), after) | {"loader + model": ""} == {
        "read": "within noise",
        "decode": "only before",
        "resize": "only after",
        "loader + model": "",
    }


def test_differences_of_host_and_versions_come_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = report(host={"cpu": "Imagined", "torch": "2.15.0", "gpu": "H100"}, created="later")
    after["workload"] = {"model": "resnet18", "workers": 8}
    target = tmp_path / "diff.json"
    paths = [write(tmp_path / "a.json", report()), write(tmp_path / "b.json", after)]
    assert main(["diff", *paths, "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == [
        "host.torch: 2.14.1 -> 2.15.0",
        "host.gpu: None -> H100",
        "workload.workers: 2 -> 8",
    ]
    assert out.index("workload.workers") < out.index("decode") and "bottleneck: still decode" in out
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["differences"][0] == ["host.torch", "2.14.1", "2.15.0"]
    assert (found["schema"], found["schema_version"]) == ("fastpipe-diff", 1)


def test_a_report_equals_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", report())
    assert main(["diff", path, path]) == 0
    out = capsys.readouterr().out
    assert "are the same" in out and "changed" not in out and "1.00" in out


@pytest.mark.parametrize("version", [2, "2.0"])
def test_another_major_version_is_refused(
    tmp_path: Path, version: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        write(tmp_path / "a.json", report()),
        write(tmp_path / "b.json", report(schema_version=version)),
    ]
    assert main(["diff", *paths]) == 1
    assert "schema versions 1 and 2" in capsys.readouterr().err


def test_a_minor_version_is_compared() -> None:
    assert verdicts(report(), report(schema_version="1.3"))["read"] == "within noise"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ("{", 1, "is not JSON"),
        ("[" * 100_000, 1, "is not JSON"),
        ("[]", 1, "is not a report"),
        ('{"schema_version": 1}', 1, "is not a report"),
        ('{"schema_version": null, "stages": []}', 1, "is not a report"),
        ('{"schema": "fastpipe-host", "schema_version": 1, "cpu": {}}', 1, "is not a report"),
    ],
)
def test_what_is_no_report_is_named(
    tmp_path: Path, content: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = write(tmp_path / "a.json", report()), write(tmp_path / "b.json", content)
    assert main(["diff", good, bad]) == status
    err = capsys.readouterr().err
    assert "b.json" in err and words in err and len(err.splitlines()) == 1


def test_a_report_from_a_busy_machine_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = report(notes=["Other processes used 73% of this machine's CPUs meanwhile.", "Ten files."])
    paths = [write(tmp_path / "a.json", report()), write(tmp_path / "b.json", busy)]
    assert main(["diff", *paths]) == 0
    out = capsys.readouterr().out
    assert "note: B: Other processes used 73%" in out and "Ten files" not in out and "note: A" not in out


def test_the_table_is_whole_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = report(stages=[stage("host half, 1 process", 36_920.4, 28_154.1, 58_601.9)])
    paths = [write(tmp_path / "a.json", wide), write(tmp_path / "b.json", wide)]
    assert main(["diff", *paths]) == 0
    out = capsys.readouterr().out
    assert "36.9k (28.2k-58.6k)" in out and "host half, 1 process" in out and "within noise" in out
    assert "\u2026" not in out


def test_a_missing_file_is_a_wrong_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path / "none.json"), str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_half_written_stages_are_left_out_rather_than_a_crash() -> None:
    strange = copy.deepcopy(report())
    strange["stages"] += [{"name": "odd"}, {"name": "nan", "images_per_s": {"median": float("nan")}}, 7]
    strange["verdict"] = None
    assert verdicts(strange, report()) == {
        "read": "within noise",
        "decode": "within noise",
        "loader + model": "within noise",
    }
