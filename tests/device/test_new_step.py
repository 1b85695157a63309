"""What a new step and a new per-pixel operation need, shown by one of each, put in and taken out again.

A step, `RollColumns` below, needs a spec, a row in the table of steps and a draw. In the tree these are:

    1  fastpipe/transforms/specs.py, or a file that it imports: the spec
    2  fastpipe/transforms/step_table.py: its row
    3  fastpipe/device/draws/draw.py: how it is drawn
    4  fastpipe/rng.py: a stream of its own
    5  a test
    6  CHANGELOG.md
    7  fastpipe/transforms/steps.py, if torchvision has a class for it

and six for a key of recipes: train/config/schema.py, checks.py and recipe.py beside it, train/augment.py,
train/recipe_table.py and a card in docs/methods/.

An operation, `ADDED` below, needs a row, a rule, and a branch in the two places that fill tables:

    1  kernels/ops.py          2  kernels/rules.py
    3  kernels/cpu/tables.py   4  kernels/cuda/statistics.py
    5  tests/kernels/test_pillow_ops.py and 6  scripts/gallery.py: the same by Pillow
    7  fastpipe/device/engines/kornia.py: kornia's function, if a policy draws it
    8  CHANGELOG.md
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fastpipe import kernels
from fastpipe.device import DeviceStage, draw
from fastpipe.device.draws.draw import DRAWS, Draw, LevelPass
from fastpipe.device.draws.numbers import batch_numbers
from fastpipe.device.draws.params import OpParams
from fastpipe.device.engines.protocol import EngineName
from fastpipe.errors import ArgumentError
from fastpipe.rng import Stream
from fastpipe.transforms import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    Normalize,
    RandAugment,
    RandomErasing,
    Resize,
    ToFloat,
    merge,
)
from fastpipe.transforms.arrange import arrange
from fastpipe.transforms.read import NotKnown
from fastpipe.transforms.step_table import STEPS, Step, timed_steps, word_for
from fastpipe.types import Batch, HostBatch, Plan, Request, Spec

ROOT = Path(__file__).parents[2]
NUM, HEIGHT, WIDTH = 6, 24, 20
LEVELS: tuple[Spec, ...] = (HorizontalFlip(), RandAugment(depth=2), ColOut(), Resize(18))
VALUES: tuple[Spec, ...] = (ToFloat(), Normalize(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2)))
ENGINES: list[EngineName] = ["fused", "torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollColumns(Spec):
    """Roll all images of the batch by one random number of columns: a step that no engine knows."""

    kind: ClassVar[str] = "roll"


def rolled_by(request: Request, width: int) -> int:
    # A real step has a stream of its own; the test borrows one.
    return int(batch_numbers(request, Stream.REPLACE, 1)[0] * width)


def draw_roll(spec: RollColumns, request: Request, height: int, width: int) -> LevelPass:
    columns = rolled_by(request, width)
    return lambda images: images.roll(columns, dims=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Negative(Spec):
    """Invert all images: a step that is drawn as an operation which the engines know."""

    kind: ClassVar[str] = "negative"


def draw_negative(spec: Negative, request: Request, height: int, width: int) -> OpParams:
    num = len(request.ids)
    return OpParams(
        ops=np.full((num, 1), kernels.OPS["invert"], np.int16),
        values=np.zeros((num, 1)),
        matrices=np.tile(np.array([1.0, 0, 0, 0, 1, 0]), (num, 1, 1)),
        interpolations=np.zeros((num, 1), np.uint8),
        fills=np.zeros((num, 3), np.uint8),
    )


@pytest.fixture
def new_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two rows, one behind the policy and one behind Resize, and their draws."""
    rows = {
        "randaugment": Step(specs=(Negative,), name="negative", word="invert"),
        "resize": Step(specs=(RollColumns,), name="roll", drawn="batch", timed=(RollColumns(),)),
    }
    before = list(STEPS)
    for kind, row in rows.items():
        STEPS.insert([step.kind for step in STEPS].index(kind) + 1, row)
    monkeypatch.setitem(DRAWS, RollColumns, Draw("passes", draw_roll))
    monkeypatch.setitem(DRAWS, Negative, Draw("ops", draw_negative))
    yield
    STEPS[:] = before


def noise(height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (NUM, height, width, 3), dtype=np.uint8)


def request_of(batch: int = 1) -> Request:
    ids = np.arange(NUM)
    return Request(seed=8, epoch=2, batch=batch, ids=ids, repeats=np.zeros_like(ids))


def run(
    images: npt.NDArray[Any], steps: tuple[Spec, ...], engine: EngineName, batch: int = 1, **options: Any
) -> Batch:
    stage = DeviceStage(
        Plan(device=steps), device=torch.device("cpu"), engine=engine, num_classes=4, **options
    )
    labels = torch.arange(NUM) % 4
    return stage(HostBatch(images=torch.from_numpy(images), labels=labels, request=request_of(batch)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_step_that_no_engine_knows(
    new_steps: None, engine: EngineName, layout: torch.memory_format
) -> None:
    after: tuple[Spec, ...] = (*VALUES, RandomErasing(p=1.0), MixUp(0.4))
    steps = merge(Plan(device=(*LEVELS, *after)), [RollColumns()]).device
    assert steps == (*LEVELS, RollColumns(), *after)
    levels = run(noise(), LEVELS, engine).images.permute(0, 2, 3, 1).numpy()
    columns = rolled_by(request_of(), levels.shape[2])
    assert 0 < columns < levels.shape[2]
    expected = run(np.roll(levels, columns, axis=2), after, engine, memory_format=layout)
    found = run(noise(), steps, engine, memory_format=layout)
    assert found.images.is_contiguous(memory_format=layout)
    assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_that_is_an_operation(new_steps: None, engine: EngineName) -> None:
    steps = merge(Plan(device=(HorizontalFlip(p=1.0),)), [Negative(), RollColumns()]).device
    assert steps == (HorizontalFlip(p=1.0), Negative(), RollColumns())
    for batch in range(3):
        expected = np.roll(255 - noise()[:, :, ::-1], rolled_by(request_of(batch), WIDTH), axis=2)
        found = run(noise(), steps, engine, batch).images.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(found, expected)


def test_other_steps_draw_what_they_drew(new_steps: None) -> None:
    steps = (*LEVELS, *VALUES, RandomErasing(p=1.0), CutMix(1.0))
    more = merge(Plan(device=steps), [RollColumns()]).device
    without, found = (draw(chosen, request_of(), HEIGHT, WIDTH) for chosen in (steps, more))
    assert len(found.passes) == 1 and without.passes == ()
    for part in ("flip", "ops", "colout", "resize", "erasing", "mix"):
        np.testing.assert_equal(_plain(getattr(found, part)), _plain(getattr(without, part)))


def _plain(part: Any) -> Any:
    slots = getattr(type(part), "__slots__", None)
    return part if slots is None else {name: getattr(part, name) for name in slots}


def test_lifting_keeps_to_the_rows(new_steps: None) -> None:
    roll, negative, flip = RollColumns(), Negative(), HorizontalFlip()
    assert arrange([flip, negative, roll, *VALUES]) == (flip, negative, roll, *VALUES)
    with pytest.raises(NotKnown, match="does negative before roll, and here it comes after"):
        arrange([roll, negative])
    with pytest.raises(NotKnown, match="runs one roll, and a later step is another one"):
        arrange([roll, roll])
    with pytest.raises(ArgumentError, match="already has a step of that kind"):
        merge(Plan(device=(roll,)), [roll])


def test_the_profiler_names_and_costs_it(new_steps: None) -> None:
    assert list(timed_steps()) == ["RandAugment", "TrivialAugmentWide", "ColOut", "RollColumns", "MixUp"]
    steps = (HorizontalFlip(), Negative(), RollColumns(), *VALUES)
    assert [word_for(spec) for spec in steps] == ["flip", "invert", "RollColumns", "cast", "normalise"]


def test_what_cannot_be_combined_is_said(new_steps: None) -> None:
    for steps, words in (
        ((RandAugment(), Negative()), r"only one step may draw 'ops'\. Found another: Negative"),
        ((RollColumns(), ColOut()), r"ColOut.* must come before the steps that run as separate passes"),
        ((*VALUES, MixUp(1.0), RollColumns()), "RollColumns.* must come before erasing, MixUp and CutMix"),
    ):
        with pytest.raises(ArgumentError, match=words):
            draw(steps, request_of(), HEIGHT, WIDTH)


def test_a_step_without_a_draw_is_refused_and_not_left_out() -> None:
    with pytest.raises(ArgumentError, match=r"device stage must be HorizontalFlip, .*Found: RollColumns\(\)"):
        draw([RollColumns()], request_of(), HEIGHT, WIDTH)
    with pytest.raises(ArgumentError, match=r"augment takes specs of fastpipe\.augment"):
        merge(Plan(), [RollColumns()])


def test_every_row_is_complete() -> None:
    """Specs of a row share a kind, no two rows do, and all that the device runs has a draw."""
    kinds = [{spec.kind for spec in step.specs} for step in STEPS]
    assert all(len(kind) == 1 for kind in kinds) and len(set.union(*kinds)) == len(STEPS)
    device = {spec for step in STEPS if step.where == "device" for spec in step.specs}
    assert device == set(DRAWS)
    assert {spec for spec, drawn in DRAWS.items() if drawn is None} == {
        spec for step in STEPS if step.in_table for spec in step.specs
    }
    assert set.union(*(set(step.commutes) for step in STEPS)) <= set.union(*kinds)


# What a per-pixel operation adds to a file: the line before which it stands, and its own lines.
ADDED: dict[str, tuple[tuple[str, str], ...]] = {
    "ops.py": (
        (
            ")\n\nOPS: dict",
            '    Operation(name="shift", value="whole", low=-255, high=255, example=-20.0),\n',
        ),
        ("VALUE_OPS =", 'SHIFT = OPS["shift"]\n\n'),
    ),
    "rules.py": (
        (
            "def invert_level",
            "def shift_level(level, addend):\n    return min(max(level + addend, 0), 255)\n\n\n",
        ),
    ),
    "cpu/tables.py": (
        ("    SOLARIZE,\n", "    SHIFT,\n"),
        ("_invert_level = ", "_shift_level = inlined(rules.shift_level)\n"),
        (
            "        elif op == INVERT:",
            "        elif op == SHIFT:\n            new = _shift_level(level, int(value))\n",
        ),
    ),
    "cuda/statistics.py": (
        ("    SOLARIZE,\n", "    SHIFT,\n"),
        ("_invert_level = ", "_shift_level = on_device(rules.shift_level)\n"),
        (
            "    elif op == INVERT:",
            "    elif op == SHIFT:\n        new = np.int64(_shift_level(level, value))\n",
        ),
    ),
}
COMPARED = """
import numpy as np
from fastpipe import kernels
images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
for value in (-255, -20, 0, 3, 255):
    expected = np.clip(images.astype(np.int64) + value, 0, 255)
    assert (kernels.apply_op(images, "shift", value) == expected).all(), value
try:
    kernels.apply_op(images, "shift", 256)
except ValueError as error:
    print(error)
"""


KNOWN = "from fastpipe import kernels\nassert 'shift' in kernels.OPS\n"


@pytest.fixture(scope="module")
def with_operation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import fastpipe from, with the operation in its kernels and the rest as it is here."""
    folder = tmp_path_factory.mktemp("with_operation")
    package = folder / "fastpipe"
    package.mkdir()
    for path in (*(ROOT / "fastpipe").iterdir(), ROOT / "train", ROOT / "profiling"):
        (package / path.name).symlink_to(path)
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name, additions in ADDED.items():
        path = package / "kernels" / name
        text = path.read_text(encoding="utf-8")
        for before, lines in additions:
            assert text.count(before) == 1, f"{name} has no single {before!r} any more"
            text = text.replace(before, lines + before)
        path.write_text(text, encoding="utf-8")
    return folder


def run_python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    environment.pop("FASTPIPE_REQUIRE", None)  # one test alone does not have every backend
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow  # all kernels are compiled anew
def test_a_new_operation_has_its_pixels_and_checks(with_operation: Path) -> None:
    said = run_python(with_operation, "-c", COMPARED)
    assert said == "values of shift must be whole numbers in -255..255. Found: 256.0\n"


@pytest.mark.slow
def test_a_new_operation_is_compared_on_cuda_without_a_word_in_the_tests(with_operation: Path) -> None:
    """The engine's self-check takes it from the table, and the CUDA kernels have the CPU's bytes."""
    test = f"{ROOT}/tests/kernels/test_cuda_on_cpu.py::test_every_operation_at_every_size[(3, 4)-nearest]"
    options = ["-q", "-p", "no:cacheprovider", "-c", f"{ROOT}/pyproject.toml", test]
    said = run_python(with_operation, "-c", f"import sys, pytest\n{KNOWN}sys.exit(pytest.main({options!r}))")
    assert "1 passed" in said
