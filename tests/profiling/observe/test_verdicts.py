"""One verdict for each loader, named by the line that made it, the training loader first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling.observe.sites import Site, names_of, sites_of, target_of


def line_of(tmp_path: Path, text: str) -> int:
    lines = (tmp_path / "train.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_two_loaders_of_one_line_the_slow_one_for_validation(observe: Any, tmp_path: Path) -> None:
    """No optimizer, no model, and most of the time is spent with the other loader."""
    source = """
train = DataLoader(Numbers(24), 4, shuffle=True, num_workers=1); held_out = DataLoader(Numbers(24, 0.01), 8)
for epoch in range(4):
    for batch in train: time.sleep(0.001)
    for batch in held_out: pass
"""
    ran = observe(source, "--steps", "25")
    first, second = ran.report["loaders"]
    line = line_of(tmp_path, "train = ")
    assert (first["name"], second["name"]) == (f"train.py:{line} (train)", f"train.py:{line} (held_out)")
    assert first["steps"] * first["step_ms"]["total"] < second["steps"] * second["step_ms"]["total"]
    assert (first["role"], second["role"]) == ("training", "unknown")
    for loader in (first, second):
        assert loader["verdict"]["text"].startswith(f"{loader['name']}, ")
        assert loader["verdict"]["loader"] == loader["number"]
        assert f"{loader['name']}, " in ran.err
    assert ran.report["verdict"] == first["verdict"] and ran.report["lift"] == first["lift"]
    assert second["verdict"]["waiting"] is True


def test_the_optimizer_tells_which_loader_trains(observe: Any) -> None:
    """Against every other sign: neither the order nor gradients nor the name."""
    source = """
parameter = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([parameter], lr=0.1)
b = DataLoader(Numbers(40), 4, shuffle=True)
a = DataLoader(Numbers(40), 4)
for first, second in zip(b, a):
    (parameter * second[0].mean()).backward()
    optimizer.step()
"""
    ran = observe(source, "--steps", "12")
    first, second = ran.report["loaders"]
    assert (first["number"], first["role"]) == (1, "training")
    assert first["role_reason"] == "an optimizer steps on its batches"
    assert second["role_reason"] != first["role_reason"]


@pytest.mark.parametrize(
    ("off", "role"), [("torch.no_grad()", "evaluation"), ("torch.inference_mode()", "evaluation")]
)
def test_batches_without_gradients_are_for_evaluation(observe: Any, off: str, role: str) -> None:
    source = f"""
one = DataLoader(Numbers(12), 4, shuffle=True)
two = DataLoader(Numbers(12), 4)
for epoch in range(3):
    with {off}:
        for batch in one: pass
    for batch in two: pass
"""
    ran = observe(source, "--steps", "14")
    assert [(loader["number"], loader["role"]) for loader in ran.report["loaders"]] == [
        (1, "unknown"),
        (0, role),
    ]


def test_a_window_without_the_training_loader_says_so(observe: Any) -> None:
    source = """
train_loader = DataLoader(Numbers(12), 4, shuffle=True)
val_loader = DataLoader(Numbers(100), 4)
for batch in train_loader: break
with torch.no_grad():
    for batch in val_loader: pass
"""
    ran = observe(source)
    assert [loader["role"] for loader in ran.report["loaders"]] == ["evaluation"]
    notes = " ".join(ran.report["notes"])
    assert "(train_loader) gave no batch after the warm-up" in notes
    assert "no loader was seen feeding the training" in notes


def test_loaders_of_a_helper_are_named_by_its_callers(observe: Any, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.py").write_text(
        "from torch.utils.data import DataLoader\n\n"
        "class Mine(DataLoader):\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n\n"
        "def make(data, **options):\n"
        "    return Mine(data, 4, **options)\n",
        encoding="utf-8",
    )
    source = """
from parts.data import make
train = make(Numbers(12), shuffle=True)
val = make(Numbers(12))
for epoch in range(2):
    for loader in (train, val):
        for batch in loader: pass
"""
    ran = observe(source, "--steps", "10")
    assert ran.status == 0, ran.err
    at = [line_of(tmp_path, "train = make"), line_of(tmp_path, "val = make")]
    assert [loader["name"] for loader in ran.report["loaders"]] == [
        f"parts/data.py:8 < train.py:{line}" for line in at
    ]


def test_loaders_of_a_loop_are_numbered() -> None:
    site = (Site(file="/nowhere/x.py", line=3, column=None),)
    assert names_of([site, site], "/nowhere") == ["x.py:3 #1", "x.py:3 #2"]
    assert names_of([(), site], "/elsewhere") == ["made elsewhere", "/nowhere/x.py:3"]


def test_what_a_loader_is_assigned_to(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from torch.utils.data import DataLoader\n"
        "a = DataLoader([1]); b['k'] = DataLoader(\n    [2],\n)\n"
        "self.c = [DataLoader([3])]\nDataLoader([4])\n",
        encoding="utf-8",
    )
    found = [
        target_of((Site(file=str(file), line=line, column=column),))
        for line, column in ((2, 4), (2, 30), (5, 10), (6, 0), (99, 0))
    ]
    assert found == ["a", "b['k']", "self.c", "", ""]


def test_the_sites_of_this_line_are_the_scripts_alone() -> None:
    found = sites_of(None)
    assert found[0].file == __file__
    assert not any("torch/" in site.file or "/_pytest/" in site.file for site in found)
