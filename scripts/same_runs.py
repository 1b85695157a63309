"""Batches, losses and options of both checkouts, for scripts/same-bytes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from same_cases import COMMANDS, RECIPES, STEPS
from same_side import A_RUN_S, Pair, Results, Side, both, prepare

__all__ = ["batches", "losses", "options", "options_in", "train"]

_OPTION = re.compile(r"^ {2}(?:(-\w)(?: \w+)?, )?(--?[\w.-]+)", re.MULTILINE)


def batches(pair: Pair) -> tuple[Results, Results]:
    """Hashes of batches and states, and of the batches that follow OLD's states."""
    prepare(pair[0])
    old, new = both(pair, lambda side: hashes(side, "batches", side.folder / "states"))
    later = both(pair, lambda side: hashes(side, "continue", pair[0].folder / "states"))
    return old | later[0], new | later[1]


def hashes(side: Side, task: str, states: Path) -> Results:
    """The results of same_batches.py with this checkout's package, and no other."""
    states.mkdir(exist_ok=True)
    program, out = str(Path(__file__).with_name("same_batches.py")), side.folder / f"{task}.json"
    side.must("python", program, task, str(side.data), str(states), str(out))
    found = json.loads(out.read_text(encoding="utf-8"))
    if not Path(found["package"]).is_relative_to(side.root):
        raise RuntimeError(
            f"{side.root}/.venv imports {found['package']}: install the checkout there, editable"
        )
    hashes: Results = found["hashes"]
    return hashes


def losses(pair: Pair) -> tuple[Results, Results]:
    """The first losses of each recipe."""
    return both(pair, lambda side: {f"recipe {name}": first_losses(side, name) for name in RECIPES})


def first_losses(side: Side, recipe: str) -> list[str]:
    """Loss, rate and size of a run's first steps."""
    trained = train(side, f"recipe-{recipe}", STEPS, "--recipe", recipe)
    return trained[:STEPS] if len(trained) >= STEPS else [f"failed: {len(trained)} steps: {trained[-1:]}"]


def train(side: Side, name: str, steps: int, *more: str) -> list[str]:
    """The steps of a run in the folder `name`, which is asked to stop after the given number of steps."""
    command = [
        side.program("fastpipe-train"),
        "--data",
        "demo",
        "--model",
        "resnet18",
        "--train-resolution",
        "64",
    ]
    command += ["--epochs", "1", "--seed", "7", "--num-workers", "1", "--backend", "torchvision"]
    with (side.folder / f"{name}.log").open("w+", encoding="utf-8") as log:
        run = subprocess.Popen(
            [*command, "--output-dir", name, *more],
            cwd=side.folder,
            env=side.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        stop_after(run, side.folder / name / "metrics.jsonl", steps)
        log.seek(0)
        said = log.read()[-500:]
    return list(logged(side.folder / name / "metrics.jsonl")) or [f"failed: exit {run.returncode}: {said}"]


def stop_after(run: subprocess.Popen[bytes], metrics: Path, steps: int) -> None:
    """Wait for the given number of logged steps, stop the run as a scheduler does, and wait for its end."""
    deadline = time.monotonic() + A_RUN_S
    try:
        while run.poll() is None and len(list(logged(metrics))) < steps:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        run.wait(A_RUN_S)  # it finishes its step, or its validation, and saves
    finally:
        run.kill()


def logged(metrics: Path) -> Iterator[str]:
    """The steps of a metrics file: every figure that does not depend on time."""
    if not metrics.exists():
        return
    for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and (step := json.loads(line))["kind"] == "step":
            yield f"{step['step']} loss {step['loss']!r} lr {step['lr']!r} {step['resolution']} px"


def options(pair: Pair) -> tuple[Results, Results]:
    """Exit codes and the options that --help lists; its words may differ."""
    return both(pair, lambda side: {" ".join(command): answer(side, command) for command in COMMANDS})


def answer(side: Side, command: Sequence[str]) -> list[str]:
    """How a command ends, and the options in what it prints."""
    done = side.run(*command)
    found = options_in(done.stdout)
    if "--help" in command and not found:
        return [f"failed: exit {done.returncode}, no options in its help: {done.stderr[-300:]}"]
    return [f"exit {done.returncode}", *found]


def options_in(text: str) -> list[str]:
    """The options that a help text lists in its first column, sorted."""
    return sorted({option for pair in _OPTION.findall(text) for option in pair if option})
