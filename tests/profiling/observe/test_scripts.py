"""Scripts of every kind run as they would alone, and the report says what could be seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling.cli import main

LOOP = """
loader = DataLoader(Numbers(), batch_size=4, num_workers={workers})
for images, labels in loader:
    pass
print("steps", len(loader), labels.tolist())
"""


def stages(ran: Any, number: int = 0) -> dict[str, Any]:
    (loader,) = (loader for loader in ran.report["loaders"] if loader["number"] == number)
    return {stage["name"]: stage for stage in loader["stages"]}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_script_sees_what_it_would_alone(observe: Any, workers: int) -> None:
    ran = observe(LOOP.format(workers=workers))
    assert (ran.status, ran.out) == (0, "steps 16 [60, 61, 62, 63]\n")
    assert ran.report["schema_version"] == 1
    assert ran.report["window"]["steps"] == 6
    (loader,) = ran.report["loaders"]
    assert (loader["num_workers"], loader["images_per_batch"]) == (workers, 4)
    assert {"dataset", "collate"} <= set(stages(ran))
    assert ("pickle" in stages(ran)) == bool(workers)
    assert len(loader["workers"]) == workers


def test_main_module_arguments_and_path(observe: Any, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7", encoding="utf-8")
    source = """
import beside, pickle
print(__name__, __file__, sys.argv, beside.VALUE, sys.path[0] == os.path.realpath("."))
pickle.loads(pickle.dumps(Numbers()))
for batch in DataLoader(Numbers(), 4, num_workers=1): pass
"""
    ran = observe(source, arguments=["--steps", "3", "-m"])
    assert ran.out == f"__main__ {tmp_path}/train.py ['train.py', '--steps', '3', '-m'] 7 True\n"
    assert ran.status == 0, ran.err


def test_a_module_by_name(observe: Any, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "pack" / "job.py").write_text(
        "from train import *\nfrom . import __name__ as parent\nprint(parent, __name__)\n", encoding="utf-8"
    )
    ran = observe("for batch in DataLoader(Numbers(), 4): pass", "-m", arguments=["pack.job"])
    assert (ran.status, ran.out) == (0, "pack __main__\n"), ran.err
    assert ran.report["window"]["steps"] == 6


def test_loader_class_and_objects_are_torchs_own(observe: Any) -> None:
    source = """
class Mine(DataLoader):
    pass
before = set(vars(Mine(Numbers(), 4)))
loader = Mine(Numbers(), 4, num_workers=1)
batches = list(loader)
assert set(vars(loader)) - before <= {"_iterator"}, set(vars(loader)) - before
assert type(loader) is Mine and isinstance(loader, torch.utils.data.DataLoader)
assert DataLoader.__module__ == "torch.utils.data.dataloader"
from torch.utils.data import _utils, dataloader
print(_utils.worker._worker_loop.__module__, dataloader._BaseDataLoaderIter.__next__.__module__)
"""
    ran = observe(source)
    assert ran.status == 0, ran.err
    # The window closed in the middle: the hooks are gone.
    assert ran.out.strip() == "torch.utils.data._utils.worker torch.utils.data.dataloader"


def test_failing_script(observe: Any) -> None:
    ran = observe(
        """
for step, batch in enumerate(DataLoader(Numbers(), 4)):
    if step == 4:
        raise ValueError("the user's own")
"""
    )
    assert ran.status == 1
    assert "ValueError: the user's own" in ran.err
    assert "observe" not in ran.err.split("ValueError")[0]
    assert ran.err.index("ValueError") < ran.err.index("fastpipe-profile run train.py: 4 steps")
    assert "ended after 4 of 6 steps" in ran.err


def test_a_sample_that_fails(observe: Any) -> None:
    source = """
class Broken(Numbers):
    def __getitem__(self, index):
        if index == 17:
            raise OSError("sample 17 is broken")
        return super().__getitem__(index)
for batch in DataLoader(Broken(), 4, num_workers=1): pass
"""
    ran = observe(source)
    assert ran.status == 1
    assert "sample 17 is broken" in ran.err
    assert ran.report["window"]["steps"] == 3


@pytest.mark.parametrize(("code", "status", "said"), [("3", 3, ""), ("", 0, ""), ("'no data'", 1, "no data")])
def test_sys_exit(observe: Any, code: str, status: int, said: str) -> None:
    ran = observe(f"for batch in DataLoader(Numbers(), 4): pass\nsys.exit({code})")
    assert ran.status == status
    assert said in ran.err
    assert ran.report["window"]["steps"] == 6


def test_without_a_loader(observe: Any) -> None:
    ran = observe("print('no data here')")
    assert (ran.status, ran.out) == (0, "no data here\n")
    assert "not used in this process" in ran.err
    assert ran.report["verdict"] is None


def test_shorter_than_the_warm_up(observe: Any) -> None:
    ran = observe("for batch in DataLoader(Numbers(12), 4): pass", "--warmup", "100")
    assert ran.report["window"]["steps"] == 3
    assert ran.report["window"]["warmed_up"] is False


def test_infinite_iterable_data_set_with_stop(observe: Any) -> None:
    source = """
class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(3)
try:
    for batch in DataLoader(Endless(), 5, num_workers=2): pass
except Exception:
    print("swallowed")
finally:
    print("cleaned up")
"""
    ran = observe(source, "--stop")
    assert (ran.status, ran.out) == (0, "cleaned up\n")
    (loader,) = ran.report["loaders"]
    assert loader["images_per_batch"] == 5


def test_uneven_iterable_data_set(observe: Any) -> None:
    source = """
class Seven(IterableDataset):
    def __iter__(self):
        yield from range(7)
for epoch in range(3):
    got = [len(batch) for batch in DataLoader(Seven(), 4)]
print(got)
"""
    ran = observe(source)
    assert ran.out == "[4, 3]\n"
    assert sum(loader["images_per_batch"] * loader["batches_timed"] for loader in ran.report["loaders"]) <= 21


@pytest.mark.parametrize("persistent", [False, True])
def test_training_and_validation_loaders_nested(observe: Any, persistent: bool) -> None:
    source = f"""
train = DataLoader(Numbers(8), 4, num_workers=1, persistent_workers={persistent})
val = DataLoader(Numbers(6), 3)
for epoch in range(3):
    for batch in train:
        for other in val:
            time.sleep(0.01)
"""
    ran = observe(source, "--steps", "16", "--warmup", "0")
    first, second = ran.report["loaders"]
    assert [first["num_workers"], second["num_workers"]] == [1, 0]
    # 6 steps of the outer loader with 2 inner ones each: 16 steps are 6 and 10.
    assert (first["steps"], second["steps"]) == (6, 10)
    assert first["epochs"] == 3
    assert first["first_batch_ms"] > 0
    assert len(first["epoch_gaps_ms"]) == 2
    assert second["step_ms"]["compute"] >= 10


def test_killed_worker(observe: Any) -> None:
    source = """
import signal
batches = iter(DataLoader(Numbers(400), 4, num_workers=1))
for step, batch in enumerate(batches):
    if step == 3:
        os.kill(batches._workers[0].pid, signal.SIGKILL)
"""
    ran = observe(source, "--steps", "80")
    assert ran.status == 1
    # torch says which worker it was, unless the pipe breaks while a batch is on its way.
    assert any(sign in ran.err for sign in ("DataLoader worker", "Connection", "EOFError"))
    assert 3 <= ran.report["window"]["steps"] < 80


def test_ctrl_c(observe: Any) -> None:
    source = """
for step, batch in enumerate(DataLoader(Numbers(100_000), 4)):
    time.sleep(0.01)
    if step == 3:
        open("ready", "w").close()
"""
    ran = observe(source, "--steps", "1000000", interrupt="ready")
    assert ran.status == 130
    assert "KeyboardInterrupt" in ran.err
    assert ran.report["window"]["steps"] >= 2


def test_spawned_workers(observe: Any) -> None:
    source = """
if __name__ == "__main__":
    loader = DataLoader(Numbers(40), 4, num_workers=1, multiprocessing_context="spawn")
    print(sum(len(labels) for _, labels in loader))
"""
    ran = observe(source, "--steps", "8")
    assert (ran.status, ran.out) == (0, "40\n"), ran.err
    assert {"dataset", "collate", "pickle"} <= set(stages(ran))
    assert ran.report["loaders"][0]["start_method"] == "spawn"


def test_report_that_cannot_be_written(
    observe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "never.py").write_text("raise SystemExit(9)", encoding="utf-8")
    missing = str(tmp_path / "missing" / "run.json")
    assert main(["run", "--json", missing, str(tmp_path / "never.py")]) == 2
    assert "--json must name a file that can be written" in capsys.readouterr().err
    # The folder goes away while the script runs: a message, and the script's own status.
    (tmp_path / "short").mkdir()
    source = "for batch in DataLoader(Numbers(), 4): pass\nsys.exit(5)"
    gone = observe(f"os.rmdir('short')\n{source}", "--json", str(tmp_path / "short" / "run.json"))
    assert gone.status == 5
    assert "could not be written" in gone.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--steps", "0", "x.py"], "--steps must be at least 1"),
        (["--warmup", "-1", "x.py"], "--warmup must be at least 0"),
        (["no/such/script.py"], "script must be a Python file"),
        (["-m", "no_such_module_here"], "-m must name a Python module"),
    ],
)
def test_wrong_arguments(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *argv]) == 2
    assert said in capsys.readouterr().err


def test_rank_names_the_file(observe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    ran = observe("for batch in DataLoader(Numbers(), 4): pass")
    assert "steps" not in ran.err, "only rank 0 prints"
    assert json.loads((tmp_path / "run.json.rank1").read_text(encoding="utf-8"))["rank"] == 1


def test_trace_has_a_row_for_main_and_workers(observe: Any, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    # Batches of 40 CPU-ms: trivial ones are all made before the window, or let pass untimed.
    slow = LOOP.format(workers=2).replace("Numbers()", "Numbers(seconds=0.01)")
    assert observe(slow, "--trace", str(path)).status == 0
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert {event["ph"] for event in events} == {"X", "M"}
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in complete)
    rows = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert {"main process", "loader 0, worker 0", "loader 0, worker 1"} <= rows
    assert {"wait for loader 0", "rest of the step", "collate", "pickle"} <= {e["name"] for e in complete}


def test_a_fork_of_the_scripts_own_leaves_the_records_alone(observe: Any) -> None:
    source = """
for step, batch in enumerate(DataLoader(Numbers(), 4)):
    if step == 3:
        pid = os.fork()
        if not pid:
            sys.exit(0)
        os.waitpid(pid, 0)
"""
    ran = observe(source)
    assert ran.report["window"]["steps"] == 6
    assert stages(ran)["dataset"]["cost_ms_per_image"] > 0


def test_nothing_is_imported_for_the_advice(observe: Any, tmp_path: Path) -> None:
    source = """
from PIL import Image
from torchvision import datasets, transforms
os.makedirs("photos/a")
for number in range(40):
    Image.new("RGB", (32, 32)).save(f"photos/a/{number}.jpg")
class Preset:
    def __init__(self):
        self.transforms = transforms.Compose([transforms.CenterCrop(8), transforms.ToTensor()])
    def __call__(self, img):
        return self.transforms(img)
data = datasets.ImageFolder("photos", Preset())
before = [name for name in ("ffcv", "nvidia.dali", "kornia") if name in sys.modules]
for batch in DataLoader(data, 4): pass
print([name for name in ("ffcv", "nvidia.dali", "kornia") if name in sys.modules and name not in before])
"""
    ran = observe(source)
    assert (ran.status, ran.out) == (0, "[]\n"), ran.err
    assert ran.report["lift"]["moved"] == ["ToTensor"]


def test_the_file_of_a_script_that_changes_its_folder(observe: Any, tmp_path: Path) -> None:
    """As under `python train.py`: absolute from the start, while sys.argv[0] stays as it was typed."""
    source = """
import inspect, tempfile
os.chdir(tempfile.mkdtemp())
print(__file__, sys.argv[0], inspect.getsource(Numbers).split()[1], __loader__.path == __file__, __cached__)
1 / 0
"""
    ran = observe(source)
    assert ran.out == f"{tmp_path}/train.py train.py Numbers(Dataset): True None\n"
    assert f'File "{tmp_path}/train.py", line' in ran.err and ran.status == 1


def test_a_reader_of_the_report_that_has_gone(run_whole: Any, tmp_path: Path) -> None:
    """As behind `2>&1 | head`: the script runs to its end, and the files are there."""
    reading, writing = os.pipe()
    os.close(reading)
    source = "for batch in DataLoader(Numbers(), 4): pass\nopen('end', 'w').close()\n"
    done = run_whole(source, "--json", "run.json", capture_output=False, stderr=writing)
    os.close(writing)
    assert done.returncode == 0 and (tmp_path / "end").exists()
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["window"]["steps"] == 15


def test_the_report_of_a_run_can_be_compared(
    observe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observe("for batch in DataLoader(Numbers(), 4, num_workers=1): time.sleep(0.01)", "--steps", "12")
    path = str(tmp_path / "run.json")
    assert main(["diff", path, path, "--json", str(tmp_path / "diff.json")]) == 0
    said = capsys.readouterr().out
    assert "host, versions, data and workload are the same" in said and "loader 0: dataset" in said
    found = json.loads((tmp_path / "diff.json").read_text(encoding="utf-8"))
    (rate,) = found["together"]
    assert (rate["name"], rate["ratio"], rate["verdict"]) == (
        "loader 0, with the script",
        1.0,
        "within noise",
    )
    assert {row["verdict"] for row in found["stages"]} == {"not repeated"}


def test_a_worker_found_dead_while_the_report_is_made(observe: Any) -> None:
    """torch's handler of SIGCHLD raises wherever the main thread is, once."""
    source = """
from fastpipe.profiling.observe import session
real = session.names_of
def once(*args):
    session.names_of = real
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
session.names_of = once
for batch in DataLoader(Numbers(), 4): pass
"""
    ran = observe(source)
    assert ran.status == 0 and ran.report["window"]["steps"] == 6
    assert "the report failed" not in ran.err
