"""scripts/gpu-first-run: what it says without a GPU, and that nothing that went wrong looks right."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_first_run", SCRIPTS / "gpu_first_run.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["gpu_first_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(script: Any, *codes: str, **options: Any) -> Any:
    commands = [script.Command(argv=[sys.executable, "-c", code], **options) for code in codes]
    return script.Step(number=3, what="stands for a step", commands=commands, minutes=0.05)


def ran(script: Any, tmp_path: Path, *codes: str, gpus: int = 1, **options: Any) -> Any:
    made = step(script, *codes, **options)
    return script.run_step(made, made.commands, gpus, tmp_path)


def test_the_plan_has_fourteen_steps_and_every_program_exists(script: Any) -> None:
    assert [found.number for found in script.STEPS] == list(range(1, 15))
    programs = re.findall(r'^    "([a-z-]+)": ', (SCRIPTS / "gpu_steps.py").read_text(), re.MULTILINE)
    asked = re.findall(r"gpu_steps\.py ([a-z-]+)", script.plan())
    assert set(asked) <= set(programs) and len(set(asked)) == len(programs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, which would be used")
def test_without_a_device_it_says_what_it_would_do_and_fails(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([]) == 1
    said = capsys.readouterr().out
    assert "14. DALI mixed" in said and "No CUDA device here, so nothing was run" in said


def test_figures_are_the_last_line_and_commands_know_their_folder(script: Any, tmp_path: Path) -> None:
    code = "import json; print('noise'); print(json.dumps({'first_s': 1.5, 'at': '{scratch}'}))"
    record = ran(script, tmp_path, code)
    assert record["problems"] == [] and record["left_out"] == []
    assert record["runs"][0]["figures"] == {"first_s": 1.5, "at": str(tmp_path)}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ('print(\'{"problems": ["9 of 99 bytes differ"]}\')', "9 of 99 bytes differ"),
        ("raise SystemExit(9)", "exit status 9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "a segmentation fault"),
        ("raise SystemExit(139)", "a segmentation fault"),
        ("import time; time.sleep(60)", "not finished after 3 s"),
        ("print('= 120 passed, 2 skipped in 3.1s =')", "2 skipped tests"),
    ],
)
def test_what_went_wrong_is_a_problem(script: Any, tmp_path: Path, code: str, problem: str) -> None:
    assert problem in ran(script, tmp_path, code)["problems"]


def test_what_cannot_run_here_is_left_out_with_its_reason(script: Any, tmp_path: Path) -> None:
    record = script.run_step(
        step(script, "pass"),
        [
            script.Command(argv=["a", "b"], needs="no-such-program"),
            script.Command(argv=["c", "d"], gpus=2),
        ],
        1,
        tmp_path,
    )
    assert record["runs"] == [] and record["problems"] == []
    assert record["left_out"] == [
        "a b: no-such-program is not installed",
        "c d: needs 2 GPUs, and there are 1",
    ]


def test_the_record_says_what_came_out_and_what_was_left_out(script: Any, tmp_path: Path) -> None:
    good = ran(script, tmp_path, "print('{\"first_s\": 2}')")
    bad = ran(script, tmp_path, "print('words of the tool'); raise SystemExit(9)")
    bad["left_out"] = ["racecheck: compute-sanitizer is not installed"]
    script.write([good, bad], "NVIDIA H200 (PCIe)", tmp_path)
    (page,), (numbers,) = tmp_path.glob("*.md"), tmp_path.glob("*.json")
    assert page.name.endswith("_gpu_first_run_nvidia-h200-pcie.md")
    text = page.read_text()
    assert "| stands for a step | ok |" in text and "- first_s: 2" in text
    assert "exit status 9; left out: racecheck: compute-sanitizer is not installed" in text
    assert "words of the tool" in text
    assert len(json.loads(numbers.read_text())) == 2
