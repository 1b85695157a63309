"""The first half hour on a GPU: every step in its own process, and a record of the results.

    scripts/gpu-first-run [--plan] [--rehearse] [--only 3 9] [--output FOLDER]

Called by scripts/gpu-first-run. Exit status 0: every step that this machine can run succeeded; 1: one failed,
or there is no CUDA device. The steps' own programs are in gpu_steps.py; each prints its figures as JSON in
its last line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STEPS_FILE = str(Path(__file__).with_name("gpu_steps.py"))
PYTHON = [sys.executable, "-P"]
CHECK = [*PYTHON, STEPS_FILE, "check"]
CRASHED = (139, -11)  # as a shell says it, and as subprocess does


@dataclass(frozen=True, kw_only=True)
class Command:
    """One process. `{scratch}` in its arguments is a folder of this run."""

    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    needs: str = ""
    gpus: int = 1


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is checked, the expected result, and the command. rehearsal: a small CPU version, if possible."""

    number: int
    what: str
    commands: Sequence[Command]
    rehearsal: Sequence[Command] = ()
    minutes: float = 3.0


def ours(name: str, *more: str, **options: Any) -> Command:
    """A program of gpu_steps.py."""
    return Command(argv=[*PYTHON, STEPS_FILE, name, *more], **options)


def on_cpu(name: str, *more: str) -> Sequence[Command]:
    """The same on the CPU, small."""
    return [ours(name, "--device", "cpu", "--small", *more)]


RANKS = [*PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2", STEPS_FILE, "ranks"]
NSYS = ["nsys", "profile", "--trace", "cuda", "--force-overwrite", "true"]
NSYS += ["--capture-range", "cudaProfilerApi", "--capture-range-end", "stop"]
STEPS = (
    Step(number=1, what="GPU, driver, capability; torch's CUDA version", commands=[ours("machine")]),
    Step(
        number=2,
        what="all kernels compiled into an empty cache, and found there again: seconds of both",
        commands=[ours("compile", env={"NUMBA_CACHE_DIR": "{scratch}/kernels"})],
    ),
    Step(
        number=3,
        what="the self-check with warnings as errors: no difference; its time, first and second",
        commands=[Command(argv=CHECK)],
    ),
    Step(
        number=4,
        what="compute-sanitizer memcheck and racecheck over step 3: 0 errors",
        commands=[
            Command(
                argv=["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *CHECK],
                needs="compute-sanitizer",
            )
            for tool in ("memcheck", "racecheck")
        ],
        minutes=6,
    ),
    Step(
        number=5,
        what="make test-gpu: all pass, none is skipped",
        commands=[Command(argv=["scripts/test-gpu", "-p", "no:cacheprovider"])],
        minutes=8,
    ),
    Step(
        number=6,
        what="step 3 on cuda:1, and under CUDA_VISIBLE_DEVICES=1",
        commands=[
            Command(argv=[*CHECK, "--device", "cuda:1"], gpus=2),
            Command(argv=CHECK, env={"CUDA_VISIBLE_DEVICES": "1"}, gpus=2),
        ],
    ),
    Step(
        number=7,
        what="40 epochs with RandAugment: memory_reserved() flat, explain() says fused",
        commands=[ours("epochs")],
        rehearsal=on_cpu("epochs"),
    ),
    Step(
        number=8,
        what="fastpipe-profile host: the pinned copy in GB/s",
        commands=[Command(argv=[str(Path(sys.executable).with_name("fastpipe-profile")), "host"])],
        rehearsal=[Command(argv=[str(Path(sys.executable).with_name("fastpipe-profile")), "host"])],
    ),
    Step(
        number=9,
        what="kernels by CUDA events, 256 x 224 x 224, bf16, both layouts, next to the floor; median of 200",
        commands=[ours("roofline")],
    ),
    Step(
        number=10,
        what="nsys over 50 steps: copies overlap the model, the ahead thread never waits, no cudaMalloc",
        commands=[
            Command(
                argv=[
                    *NSYS,
                    "-o",
                    "{scratch}/trace",
                    *PYTHON,
                    STEPS_FILE,
                    "fifty",
                    "--to",
                    "{scratch}/threads",
                ],
                needs="nsys",
            ),
            ours("trace", "--to", "{scratch}", needs="nsys"),
        ],
        rehearsal=on_cpu("fifty", "--to", "{scratch}/threads"),
    ),
    Step(
        number=11,
        what="images/s of loader and ResNet-50, batch 256: fp16, bf16, synthetic; share of waiting; "
        "RandAugment depth 0, 1, 2; Mild against Hot",
        commands=[ours("throughput"), ours("recipes")],
        rehearsal=[*on_cpu("throughput"), *on_cpu("recipes")],
        minutes=10,
    ),
    Step(
        number=12,
        what="Hot in two processes: equal weights on both ranks, each on its own device",
        commands=[Command(argv=RANKS, gpus=2)],
        rehearsal=[Command(argv=[*RANKS, "--device", "cpu", "--small"], env={"OMP_NUM_THREADS": "1"})],
        minutes=5,
    ),
    Step(
        number=13,
        what="a batch that does not fit: the error says out of memory",
        commands=[ours("too-big")],
    ),
    Step(
        number=14,
        what="DALI mixed, last: exit 139 is nvImageCodec's open fault",
        commands=[ours("dali", env={"FASTPIPE_DALI_MIXED": "1"})],
        rehearsal=on_cpu("dali"),
    ),
)


def run_command(command: Command, seconds: float, scratch: Path) -> dict[str, Any]:
    """Run it. Returns its output, its figures, and its problems."""
    argv = [part.replace("{scratch}", str(scratch)) for part in command.argv]
    env = {name: text.replace("{scratch}", str(scratch)) for name, text in command.env.items()}
    started_s = time.monotonic()
    found: dict[str, Any] = {"command": " ".join([*(f"{k}={v}" for k, v in env.items()), *argv])}
    try:
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, **env},
            timeout=seconds,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as error:
        text = (
            error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        )
        return {**found, "problems": [f"not finished after {seconds:.0f} s"], "tail": text[-3000:]}
    found |= {"exit": done.returncode, "seconds": round(time.monotonic() - started_s, 1)}
    figures = _last_json(done.stdout)
    problems = list(figures.pop("problems", []))
    if done.returncode:
        killed = f" (signal {-done.returncode})" if done.returncode < 0 else ""
        problems.append(f"exit status {done.returncode}{killed}")
    if done.returncode in CRASHED:
        problems.append("a segmentation fault")
    if skipped := re.search(r"\d+ skipped", done.stdout.splitlines()[-1] if done.stdout else ""):
        problems.append(f"{skipped[0]} tests")
    found |= {"figures": figures, "problems": problems}
    return found if not problems and figures else {**found, "tail": done.stdout[-3000:]}


def _last_json(text: str) -> dict[str, Any]:
    for line in reversed(text.strip().splitlines()):
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                return {}
    return {}


def run_step(step: Step, commands: Sequence[Command], gpus: int, scratch: Path) -> dict[str, Any]:
    """The record of one step. `left_out` says why a command did not run, which is not a success."""
    record: dict[str, Any] = {"step": step.number, "what": step.what, "runs": [], "left_out": []}
    for command in commands:
        name = " ".join(command.argv[-3:])
        if command.needs and shutil.which(command.needs) is None:
            record["left_out"].append(f"{name}: {command.needs} is not installed")
        elif command.gpus > gpus > 0:
            record["left_out"].append(f"{name}: needs {command.gpus} GPUs, and there are {gpus}")
        else:
            record["runs"].append(run_command(command, 60 * step.minutes, scratch))
    record["problems"] = [problem for run in record["runs"] for problem in run["problems"]]
    return record


def as_text(records: Sequence[dict[str, Any]], machine: str, date: str) -> str:
    """The record as a page, problems first."""
    lines = [f"# The first run on {machine}, {date}", "", "`scripts/gpu-first-run`", ""]
    lines += ["| step | what | came out |", "|---|---|---|"]
    for record in records:
        out = "; ".join(record["problems"]) or ("ok" if record["runs"] else "")
        out = "; ".join(filter(None, [out, *(f"left out: {text}" for text in record["left_out"])]))
        lines.append(f"| {record['step']} | {record['what']} | {out} |")
    for record in records:
        lines += ["", f"## {record['step']}. {record['what']}"]
        for run in record["runs"]:
            lines += ["", f"`{run['command']}`: exit {run.get('exit')}, {run.get('seconds')} s", ""]
            lines += [f"- {name}: {value}" for name, value in run.get("figures", {}).items()]
            if run.get("tail"):
                lines += ["", "```text", run["tail"].strip(), "```"]
    return "\n".join(lines) + "\n"


def plan() -> str:
    """The planned commands, one per line."""
    lines = []
    for step in STEPS:
        lines.append(f"{step.number:2}. {step.what}")
        for command in step.commands:
            words = [Path(word).name if word.startswith("/") else word for word in command.argv]
            settings = [f"{name}={text}" for name, text in command.env.items()]
            needs = f"    [needs {command.gpus} GPUs]" if command.gpus > 1 else ""
            lines.append(f"      {' '.join([*settings, *words])}{needs}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the requested steps. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", action="store_true", help="print the steps and do nothing")
    parser.add_argument(
        "--rehearse", action="store_true", help="run small versions on the CPU, without a record"
    )
    parser.add_argument("--only", type=int, nargs="+", help="run only these steps")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder for the record")
    given = parser.parse_args(argv)
    if given.plan:
        print(plan())
        return 0
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus and not given.rehearse:
        print(f"{plan()}\n\nNo CUDA device here, so nothing was run. --rehearse runs what a CPU can.")
        return 1
    if given.rehearse:  # OpenMP's threads spin while they wait, and take CPU time from the workers
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    wanted = [step for step in STEPS if given.only is None or step.number in given.only]
    records = []
    with tempfile.TemporaryDirectory(prefix="fastpipe-gpu-") as scratch:
        for step in wanted:
            commands = step.rehearsal if given.rehearse else step.commands
            if not commands:
                print(f"{step.number:2}. {step.what}: needs a GPU")
                continue
            print(f"{step.number:2}. {step.what} ...", flush=True)
            record = run_step(step, commands, 0 if given.rehearse else gpus, Path(scratch))
            records.append(record)
            print(f"      {'; '.join(record['problems'] + record['left_out']) or 'ok'}", flush=True)
            for run in record["runs"]:
                if run["problems"]:
                    print(run.get("tail", ""))
    if not given.rehearse:
        write(records, torch.cuda.get_device_name(), given.output)
    return int(any(record["problems"] for record in records))


def write(records: Sequence[dict[str, Any]], machine: str, folder: Path) -> None:
    """The record, as JSON and as a page, with the machine's name."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    name = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    path = folder / f"{date}_gpu_first_run_{name}"
    path.with_suffix(".json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(as_text(records, machine, date), encoding="utf-8")
    print(f"record: {path}.md and .json")


if __name__ == "__main__":
    sys.exit(main())
