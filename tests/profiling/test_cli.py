"""The command line from argument to exit status, on forty small JPEGs."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from fastpipe.profiling.cli import main

Plant = Callable[[float], None]

SMALL = ["--resolution", "32", "--batch-size", "8", "--workers", "1", "--quick", "--seconds-per-stage", "0.1"]
STAGES = ["read", "decode", "crop+resize", "batch assembly", "process hop", "device stage", "model step"]
TOGETHER = ["host half, 1 process", "fastpipe.DataLoader", "torch DataLoader", "loader + model"]


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one line on stderr of a run that fails with `status`."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fastpipe-profile: error: "), captured.err
    return lines[0]


def test_a_profile_of_a_real_model_prints_table_verdict_and_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "profile.json"
    whole = [word for word in SMALL if word != "--quick"]
    status = main([str(folder), *whole, "--model", "squeezenet1_1", "--json", str(report)])
    out = capsys.readouterr().out
    assert status == 0
    for name in (*STAGES, *TOGETHER, "host: ", "data: ", " of 40 files sampled", "is the bottleneck"):
        assert name in out
    assert re.search(r"\d% ?\)|prediction [+-]\d+%", out)
    assert list(tmp_path.iterdir()) == [report]
    check_schema(json.loads(report.read_text(encoding="utf-8")))


def check_schema(found: dict[str, Any]) -> None:
    assert set(found) == {
        *(
            "schema_version",
            "schema_minor",
            "created",
            "not_measured",
            "host",
            "data",
            "workload",
            "stages",
            "together",
            "verdict",
            "notes",
        ),
        *(
            "scaling",
            "details",
            "differential",
            "latency",
            "interference",
            "fixes",
            "verified",
            "history",
            "what_if",
        ),
    }
    assert (found["schema_version"], found["schema_minor"]) == (2, 1)
    assert found["workload"]["augment"] == [] and found["workload"]["model_side"] == 32
    for row in found["not_measured"]:
        assert set(row) == {"name", "why"}
    check_later_sections(found)
    # Overhead is a difference, and left out where there is none to speak of.
    names = [stage["name"] for stage in found["stages"] if stage["name"] != "worker overhead"]
    assert names == STAGES
    assert [stage["name"] for stage in found["together"]] == TOGETHER
    for stage in (*found["stages"], *found["together"]):
        assert set(stage) == {
            *("name", "lane", "what", "images_per_s", "images_per_s_interval", "cpu_ms_per_image"),
            *("repeats", "images"),
        }
        for spread in (stage["images_per_s"], stage["cpu_ms_per_image"]):
            assert 0.0 <= spread["low"] <= spread["median"] <= spread["high"]
        assert stage["repeats"] >= 1 and stage["images"] >= stage["repeats"]
    assert {found["verdict"]["bottleneck"], found["verdict"]["next"]["stage"]} <= {*STAGES, "worker overhead"}
    assert "is the bottleneck" in found["verdict"]["text"]
    assert found["data"]["files"] == 40 and found["data"]["median_pixels"] == 64 * 64
    assert found["workload"]["resolution"] == 32
    assert {"cpu", "cpus_usable", "gpu", "torch", "torchvision", "pillow"} <= set(found["host"])


def test_the_schema_page_names_every_section(folder: Path, plant_model: Plant, tmp_path: Path) -> None:
    plant_model(0.0)
    report = tmp_path / "profile.json"
    more = ["--json", str(report), "--trace", str(tmp_path / "trace.json")]
    assert main([str(folder), *SMALL, "--workers", "0", *more]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    page = Path(__file__).parents[2] / "docs" / "profile-schema.md"
    rows = [
        line.split("|") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert named == set(found)
    words = {row[1].strip().strip("`"): "|".join(row[2:]) for row in rows}
    for section in ("timeline", "host_card"):
        missing = [name for name in found[section] if f"`{name}`" not in words[section]]
        assert not missing, f"{section} has undocumented fields"
    assert {"row", "name", "kind", "batch", "start_s", "end_s"} == set(found["timeline"]["spans"][0])


def check_later_sections(found: dict[str, Any]) -> None:
    assert [point["workers"] for point in found["scaling"]["points"]] == [1]
    curve = found["scaling"]["fit"]["curve"]
    assert curve[0]["images_per_s"]["low"] <= curve[0]["images_per_s"]["median"]
    names = {row["name"] for row in found["details"]}
    timed = {"read cold", "list", "header", "collate", "RandAugment, Pillow", "device stage + MixUp"}
    assert timed <= names
    missing = {row["name"] for row in found["not_measured"]}
    assert {"decode of the crop", "pin", "host to device"} <= names | missing and not names & missing
    runs = found["differential"]
    assert [row["name"] for row in runs["runs"]] == [
        "model",
        "+ loader",
        "+ decode",
        "+ augment",
        "warm",
        "cold",
    ]
    # What the parts add is what lies between the first run and the last.
    between = 1 / runs["runs"][-1]["images_per_s"]["median"] - 1 / runs["runs"][0]["images_per_s"]["median"]
    added = sum(row["seconds"]["median"] for row in runs["stalls"])
    assert added == pytest.approx(between * runs["epoch_images"], rel=1e-6)
    assert [row["load"] for row in found["interference"]["points"]] == [0.0, 0.4, 0.8, 1.0]
    assert found["latency"]["wait_p50_ms"] <= found["latency"]["wait_p99_ms"]
    assert found["latency"]["workers_seen"] == 1 and found["latency"]["worker_bytes"] > 1e6
    gains = [fix["gain"] for fix in found["fixes"]]
    assert gains == sorted(gains, reverse=True)
    for fix in found["fixes"]:
        assert fix["command"] and fix["accuracy"]
        assert fix["images_per_s"]["low"] <= fix["images_per_s"]["median"] <= fix["images_per_s"]["high"]
    names = {fix["name"] for fix in found["fixes"]}
    assert {"RAM cache", "disk twice as fast", "device augmentation", "prefetch_factor 4"} <= names


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions that tests verify are not the user's."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_demand_a_question_a_verification_and_a_condition_in_one_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "profile.json"
    more = ["--target-images-per-s", "5e6", "--verify", "--what-if", "cpus=8 gpus=2 images_per_s=1e7"]
    assert main([str(folder), *SMALL, *more, "--fail-if", "stall>50%", "--json", str(report)]) == 3
    captured = capsys.readouterr()
    assert "stall>50% holds" in captured.err
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["workload"]["target_images_per_s"] == 5e6 == found["verdict"]["model_images_per_s"]
    assert found["verdict"]["bottleneck"] != "model step" and found["differential"]["stall"] > 0.5
    assert found["interference"]["points"] == [] and "no model was run" in " ".join(found["notes"])
    checked = {row["fix"]: row for row in found["verified"]}
    assert "device augmentation" in checked
    for row in checked.values():
        assert row["error"] == pytest.approx(row["predicted"] / row["measured"] - 1)
    assert found["history"]["checks"] == len(checked)
    assert found["what_if"]["bound"] == "loader" and found["what_if"]["demand"] == 1e7
    out = " ".join(captured.out.split())
    assert "What if: 8 CPUs like these" in out and "verified device augmentation" in out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--what-if", "cpu=3"], "Did you mean 'cpus'?"),
        (["--fail-if", "stal>5%"], "Did you mean 'stall'?"),
        (["--backend", "dale"], "Did you mean 'dali'?"),
        (["--target-images-per-s", "fast"], "mild-aws"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_measured(
    wrong: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in error_of(["./no/such/folder", *wrong], capsys, 2)


@pytest.mark.parametrize("backend", [pytest.param("turbo", marks=pytest.mark.turbo_built), "dali", "ffcv"])
def test_another_backend_is_one_stage(
    folder: Path, tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {"turbo": "fastpipe._turbo", "dali": "nvidia.dali", "ffcv": "ffcv"}[backend]
    pytest.importorskip(module, reason=f"{backend} is not installed")
    report = tmp_path / "profile.json"
    more = ["--backend", backend, "--target-images-per-s", "1e6", "--json", str(report)]
    assert main([str(folder), *SMALL, *more]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert [stage["name"] for stage in found["stages"]] == [
        f"{backend} pipeline",
        "device stage",
        "model step",
    ]
    assert found["verdict"]["bottleneck"] == f"{backend} pipeline"


def test_ten_files_are_enough_and_the_report_says_that_they_are_few(
    tmp_path: Path, plant_model: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "one").mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "train" / "one" / f"{number}.jpg")
    plant_model(0.0)
    assert main([str(tmp_path), *SMALL]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "only 10 files" in out and "10 of 10 files sampled" in out


def test_broken_files_are_left_out_and_counted(
    folder: Path, tmp_path: Path, plant_model: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ash").mkdir()
    for path in sorted((folder / "ash").glob("*.jpg")):
        (tmp_path / "ash" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "ash" / "broken.jpg").write_bytes(b"no image")
    plant_model(0.0)
    assert main([str(tmp_path), *SMALL, "--workers", "0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "20 of 21 files sampled, 1 broken" in out and "broken.jpg" in out


def test_a_folder_of_broken_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ash").mkdir()
    (tmp_path / "ash" / "broken.jpg").write_bytes(b"no image")
    assert "none of 1 sampled files can be decoded" in error_of([str(tmp_path), *SMALL], capsys, 1)


def test_a_missing_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in error_of(["./no/such/folder", *SMALL], capsys, 1)


def test_a_misspelt_name_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'imagenette'?" in error_of(["imagenete", *SMALL], capsys, 2)


def test_an_unknown_model_suggests_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = error_of([str(folder), *SMALL, "--model", "resnet19"], capsys, 2)
    assert "Did you mean 'resnet1" in found or "Did you mean 'resnet" in found


def test_a_model_that_refuses_the_size_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = error_of([str(folder), *SMALL, "--workers", "0", "--model", "vit_b_16"], capsys, 2)
    assert "vit_b_16" in found and "32 x 32" in found and "Choose another --resolution" in found


def test_an_unknown_recipe_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jsonargparse", reason="reading a recipe needs the train extra")
    found = error_of(["demo", "--recipe", "midl"], capsys, 2)
    assert "midl" in found and "mild" in found


@pytest.mark.parametrize("package", ["jsonargparse", "timm"])
def test_a_recipe_without_the_train_extra_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    pytest.importorskip("jsonargparse", reason="the other half of the extra must be there")
    monkeypatch.setitem(sys.modules, package, None)
    found = error_of([str(folder), *SMALL, "--recipe", "mild"], capsys, 2)
    assert package in found and "pip install timm jsonargparse tensorboard" in found


def test_a_recipe_gives_model_size_and_layout(
    folder: Path, tmp_path: Path, plant_model: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jsonargparse", reason="reading a recipe needs the train extra")
    plant_model(0.0)
    report = tmp_path / "profile.json"
    options = ["--recipe", "mild", "--workers", "0", "--quick", "--seconds-per-stage", "0.1"]
    assert main([str(folder), *options, "--json", str(report)]) == 0
    work = json.loads(report.read_text(encoding="utf-8"))["workload"]
    assert (work["recipe"], work["model"], work["models"]) == ("mild", "resnet50", "timm")
    assert (work["resolution"], work["batch_size"], work["channels_last"]) == (176, 2048, True)
    out = " ".join(capsys.readouterr().out.split())
    assert "leaves out the recipe's BlurPool, EMA" in out and "Instead of batches of 2048" in out


@pytest.mark.parametrize("where", ["missing/profile.json", ""])
def test_an_unwritable_report_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    target = str(tmp_path / where)
    found = error_of(["./no/such/folder", "--json", target], capsys, 2)
    assert target in found and "json must name a file" in found


@pytest.mark.parametrize(
    "wrong",
    [["--workers", "-1"], ["--batch-size", "0"], ["--resolution", "0"], ["--seconds-per-stage", "nan"]],
)
def test_numbers_out_of_range_are_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = error_of(["demo", *wrong], capsys, 2)
    assert wrong[0].lstrip("-").replace("-", "_") in found


def test_bad_usage_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["demo", "--no-such-option"])
    assert exit_status.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.timeout(90)
def test_a_killed_worker_ends_the_run_with_a_message(
    folder: Path, plant_model: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant_model(0.0)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    killed: list[float] = []

    def kill_the_first() -> None:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s and not killed:
            for child in psutil.Process().children(recursive=True):
                if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(time.monotonic())
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    found = error_of([str(folder), *SMALL, "--seconds-per-stage", "0.5"], capsys, 1)
    killer.join()
    assert killed and time.monotonic() - killed[0] < 20
    assert "a worker process died" in found and "--workers 0" in found
    gc.collect()
    deadline_s = time.monotonic() + 15
    while orphans := [c for c in psutil.Process().children(recursive=True) if c.pid not in before]:
        assert time.monotonic() < deadline_s, orphans
        time.sleep(0.1)


def test_python_dash_m_and_help() -> None:
    command = [sys.executable, "-P", "-m", "fastpipe.profiling", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert shown.returncode == 0, shown.stderr
    for word in ("usage: fastpipe-profile", "--recipe", "--quick", "--seconds-per-stage", "exit status"):
        assert word in shown.stdout
