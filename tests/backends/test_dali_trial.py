"""DALI's GPU decoding is tried in another process before it is used; what fails there is left out, aloud."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from fastpipe.backends.dali import backend as dali
from fastpipe.backends.dali import trial as dali_trial
from fastpipe.backends.dali.trial import FORMS, compare, mixed_form, photos, refusal_of, try_form
from fastpipe.types import Plan

pytestmark = pytest.mark.dali


def stand_in(program: str) -> list[str]:
    """A decoder of another kind: what is started in place of DALI."""
    return [sys.executable, "-S", "-c", program]


def printing(**result: object) -> list[str]:
    return stand_in(f"print({json.dumps(result)!r})")


SOUND = {"images": 64, "mean": 0.3, "share": 0.001}
WORKS = printing(**SOUND)
FAULTS = {
    "signal 11": stand_in("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    "signal 6": stand_in("import os; os.abort()"),
    "no nvjpeg today": stand_in("raise RuntimeError('no nvjpeg today')"),
    "without a result": stand_in("print('all is well')"),
    "its pixels differ: 4.00 levels": printing(**SOUND | {"mean": 4.0}),
    "20.00% of the bytes": printing(**SOUND | {"share": 0.2}),
    "its pixels differ": printing(**SOUND | {"images": 3}),
    "nan levels": stand_in('print(\'{"images": 64, "mean": NaN, "share": 0}\')'),
}


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dali_trial, "_answers", {})


def test_a_decoder_with_the_cpus_pixels_is_used() -> None:
    assert try_form("region", 0, command=WORKS) == ""


@pytest.mark.parametrize("reason", FAULTS)
def test_what_crashes_or_differs_is_a_reason(reason: str) -> None:
    assert reason in try_form("region", 0, command=FAULTS[reason])


def test_what_hangs_is_ended_after_its_time() -> None:
    found = try_form("region", 0, command=stand_in("import time; time.sleep(100)"), timeout_s=1.0)
    assert found == "the trial took longer than 1 s"


def test_what_cannot_start_is_a_reason() -> None:
    assert "could not start" in try_form("region", 0, command=["/no/such/program"])


def test_it_is_tried_once_for_a_machine_and_said_each_time(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def run(form: str, device: int) -> str:
        tried.append((form, device))
        return "it is broken"

    with caplog.at_level(logging.WARNING, "fastpipe"):
        answers = [refusal_of("region", 1, run=run, key=key) for key in ("driver 1", "driver 1", "driver 2")]
    assert answers == ["it is broken"] * 3 and tried == [("region", 1)] * 2
    assert caplog.text.count("it is broken") == 3 and "delete that file to try again" in caplog.text


def test_a_damaged_answer_is_tried_again(tmp_path: Path) -> None:
    assert refusal_of("whole", 0, run=lambda form, device: "", key="k") == ""
    (kept,) = (tmp_path / "cache" / "dali_mixed").glob("*.json")
    kept.write_text("{")
    assert refusal_of("whole", 0, run=lambda form, device: "again", key="k") == "again"


def test_a_cache_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FASTPIPE_CACHE", "/dev/null/cache")
    assert refusal_of("whole", 0, run=lambda form, device: "", key="k") == ""
    assert "cannot be stored" in caplog.text


@pytest.mark.parametrize(("broken", "expected"), [((), "region"), (("region",), "whole"), (FORMS, None)])
def test_the_first_form_that_works_is_used_else_the_cpu(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], expected: str | None
) -> None:
    monkeypatch.setattr(dali_trial.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dali_trial, "_machine", lambda device: "a GPU")
    monkeypatch.setattr(dali_trial, "try_form", lambda form, device: "bad" if form in broken else "")
    form, reasons = mixed_form(0)
    assert form == expected and reasons == dict.fromkeys(broken, "bad")
    monkeypatch.setenv("FASTPIPE_DALI_MIXED", "1")
    monkeypatch.setattr(dali, "_device_number", lambda device=None: 0)
    said = dali.DaliBackend().supports(Plan(), "fast").reason
    assert ("on the GPU" in said) == (expected is not None)
    assert all(f"not the form {name!r}: bad" in said for name in broken)
    assert "GPU" not in dali.DaliBackend().supports(Plan(), "exact").reason  # stays out of it


def test_each_rank_decodes_on_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = dali_trial.torch
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    assert dali._device_number() == 5
    assert dali._device_number(torch.device("cuda")) == 5
    assert dali._device_number(torch.device("cuda", 3)) == 3


def test_the_wheels_are_part_of_the_answers_key() -> None:
    pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
    assert "nvidia-dali-" in dali_trial._machine(0) and "nvimgcodec" in dali_trial._machine(0)


def test_the_comparison_finds_no_fault_with_the_cpus_own_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial's own arithmetic, with the CPU in the GPU's place; both forms."""
    pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
    from fastpipe.backends.dali import pipeline as dali_pipeline

    class OnCpu(dali_pipeline.Graph):
        def __init__(self, **options: object) -> None:
            super().__init__()

    monkeypatch.setattr(dali_pipeline, "Graph", OnCpu)
    assert compare("region", 0) == {"images": 64, "mean": 0.0, "share": 0.0}
    assert len(photos()) == 64


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_asks_for_fancy_upsampling_on_the_device_and_keeps_the_images_there(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Of DALI's operators only the arguments are looked at: there is no GPU to run them."""
    pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
    from fastpipe.backends.dali import pipeline as dali_pipeline

    seen: list[tuple[str, dict[str, object]]] = []

    class Operators:
        types = dali_pipeline.load_dali().types

        @property
        def fn(self) -> Operators:
            return self

        @property
        def decoders(self) -> Operators:
            return self

        def __getattr__(self, name: str) -> object:
            return lambda *inputs, **options: seen.append((name, options))

    graph = dali_pipeline.Graph(mixed=form, device=3)  # type: ignore[arg-type]
    dali_pipeline._images(Operators(), graph, (None, None, None))
    name, options = seen[0]
    assert name == ("image_slice" if form == "region" else "image")
    assert options["device"] == "mixed" and options["jpeg_fancy_upsampling"] is True
    assert [name for name, _ in seen[1:]] == ([] if form == "region" else ["slice"])
