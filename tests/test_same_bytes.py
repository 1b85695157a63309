"""scripts/same-bytes: that nothing which differs, failed or was left out looks equal."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastpipe import DataLoader

ROOT = Path(__file__).parent.parent
OLD = {"a case": ["11", "22", "33"], "another": ["44"]}


def load(name: str, patch: pytest.MonkeyPatch) -> Any:
    patch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module(name)


def compared(
    patch: pytest.MonkeyPatch,
    tmp_path: Path,
    old: dict[str, list[str]],
    new: dict[str, list[str]],
    *more: str,
    **sections: Any,
) -> int:
    """The exit status for these results of the batches, and for other sections."""
    script = load("same_bytes", patch)
    patch.setattr(script, "SECTIONS", {"batches": lambda pair: (old, new), **sections})
    for name in ("old", "new"):
        command = tmp_path / name / ".venv" / "bin" / "fastpipe-train"
        command.parent.mkdir(parents=True)
        command.touch()
    status: int = script.main([str(tmp_path / "old"), str(tmp_path / "new"), *more])
    return status


def test_equal_results_are_equal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(monkeypatch, tmp_path, OLD, dict(OLD), "--all") == 0
    said = capsys.readouterr().out
    assert "batches: 2 cases equal, 0 not, 4 values" in said and said.endswith("all equal\n")


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({**OLD, "a case": ["11", "2X", "33"]}, "DIFFERENT from number 1 of 3 on: 22 in OLD, 2X in NEW"),
        ({**OLD, "a case": ["11", "22"]}, "DIFFERENT from number 2 of 3 on: 33 in OLD, nothing in NEW"),
        ({**OLD, "a case": ["11", "22", "33", "44"]}, "nothing in OLD, 44 in NEW"),
        ({"another": ["44"]}, "DIFFERENT: NEW has nothing"),
        ({**OLD, "a third": ["55"]}, "DIFFERENT: OLD has nothing"),
        ({**OLD, "a case": ["failed: it fell"]}, "FAILED in NEW: it fell"),
    ],
)
def test_one_difference_is_shown_and_is_status_1(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    new: dict[str, list[str]],
    words: str,
) -> None:
    assert compared(monkeypatch, tmp_path, OLD, new) == 1
    said = capsys.readouterr().out
    assert words in said and "1 not," in said and "another" not in said


@pytest.mark.parametrize("both", [{"a case": ["failed: no FFCV"]}, {"a case": []}, {}])
def test_what_failed_on_both_sides_or_was_left_out_is_not_equal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, both: dict[str, list[str]]
) -> None:
    assert compared(monkeypatch, tmp_path, both, both) == 1


def test_a_section_that_could_not_run_is_status_1_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(pair: Any) -> Any:
        raise RuntimeError("fastpipe-write: exit 1")

    assert compared(monkeypatch, tmp_path, OLD, OLD, "--only", "files", "batches", files=broken) == 1
    said = capsys.readouterr().out
    assert "files: FAILED, nothing was compared: fastpipe-write: exit 1" in said
    assert "batches: 2 cases equal" in said and said.endswith("1 not equal\n")


def test_a_folder_without_fastpipe_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load("same_bytes", monkeypatch).main([str(tmp_path), str(tmp_path)])
    assert ended.value.code == 2 and "has no .venv/bin/fastpipe-train" in capsys.readouterr().err


def test_cases_have_names_of_their_own_and_no_recipe_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = load("same_cases", monkeypatch)
    names = [re.sub("[^a-z0-9]+", "-", case.name.lower()) for case in cases.BATCHES]
    assert len(names) == len(set(names))
    assert {*cases.RECIPES, "finetune"} == {path.stem for path in ROOT.glob("train/**/*.yaml")}


def test_hashes_differ_by_a_bit_a_type_a_shape_or_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = load("same_batches", monkeypatch).digest
    batch = torch.zeros(2, 3, 4, 4)
    changed = batch.clone()
    changed.view(torch.int32)[1, 2, 3, 3] = 1
    labels = torch.tensor([0, 1])
    batches = [
        *([batch, labels], [changed, labels], [batch.half(), labels], [batch.reshape(2, 3, 16), labels]),
        *([batch.to(memory_format=torch.channels_last), labels], [batch, labels.flip(0)], [batch, [0, 1]]),
        *({"seed": 1, "epoch": 2}, {"seed": 2, "epoch": 1}, [labels, batch], [batch]),
    ]
    assert len({digest(one) for one in batches}) == len(batches)
    assert digest([batch.clone(), labels.clone()]) == digest([batch, labels])


def test_real_batches_have_the_same_hashes_twice_and_others_with_another_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load("same_data", monkeypatch).make_odd(tmp_path)
    cases, batches = load("same_cases", monkeypatch), load("same_batches", monkeypatch)
    case = next(case for case in cases.BATCHES if case.name == "torchvision, odd, exact, 0 workers")
    first = batches.attempt(batches.epochs, case, tmp_path)
    assert len(set(first)) == len(first) == 9, first
    assert batches.attempt(batches.epochs, case, tmp_path) == first
    other = replace(case, options={**case.options, "seed": 18})
    again = batches.attempt(batches.epochs, other, tmp_path)
    assert all(one != two for one, two in zip(first[:-1], again[:-1], strict=True))
    nowhere = replace(case, data="nowhere")
    assert batches.attempt(batches.epochs, nowhere, tmp_path)[0].startswith("failed: EmptyDatasetError")


def test_a_mixed_batch_counts_with_its_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load("same_data", monkeypatch).make_odd(tmp_path)
    cases, batches = load("same_cases", monkeypatch), load("same_batches", monkeypatch)
    case = next(case for case in cases.BATCHES if case.name == "torchvision, odd, exact, 0 workers")
    loader = batches.loader_of(case, tmp_path)
    assert isinstance(loader, DataLoader)
    batch = next(iter(loader))
    before = batches.digest(batch)
    batch.hard_labels[0] += 1
    assert batches.digest(batch) != before


def test_options_are_read_from_their_column_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "usage: x [--a]",
        "  -h, --help  as --other says",
        "  -o F, --b-c.d F  text",
        "              --not-one",
    ]
    text = "\n".join([*lines, "  -m  x", ""])
    assert load("same_runs", monkeypatch).options_in(text) == ["--b-c.d", "--help", "-h", "-m", "-o"]
