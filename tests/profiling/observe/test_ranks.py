"""Each rank's wait in rank 0's report: by torchrun with two processes, and the meeting's own corners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling.observe.ranks import Meeting, RankWait, meeting_of, spread_words

TRAIN = """
import os, sys, time
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        time.sleep(0.03 * dist.get_rank())  # rank 1 alone
        return torch.zeros(4), index

dist.init_process_group("gloo")
for images, labels in DataLoader(Slow(), 4):
    dist.all_reduce(images)
sys.stdout.write(f"rank {dist.get_rank()} is through\\n")  # at once: the ranks share a pipe
dist.destroy_process_group()
"""


def wait(rank: int, exposed_ms: float) -> RankWait:
    return RankWait(
        rank=rank,
        steps=6,
        images_per_s=100.0,
        step_ms=40.0,
        wait_ms=exposed_ms,
        exposed_ms=exposed_ms,
        wait_p99_ms=exposed_ms,
    )


def test_two_ranks_by_torchrun(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--no-python", sys.executable, "-m", "fastpipe.profiling", "run", "--warmup", "2", "--steps", "6"),
        *("--json", "run.json", "train.py"),
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert ran.returncode == 0, ran.stderr
    assert "rank 0 is through" in ran.stdout and "rank 1 is through" in ran.stdout
    first = json.loads((tmp_path / "run.json.rank0").read_text(encoding="utf-8"))
    second = json.loads((tmp_path / "run.json.rank1").read_text(encoding="utf-8"))
    quick, slow = first["ranks"]
    assert (quick["rank"], slow["rank"], second["ranks"]) == (0, 1, [])
    assert slow["wait_ms"] == second["loaders"][0]["step_ms"]["wait"] >= 4 * 30
    assert quick["wait_ms"] < slow["wait_ms"]
    assert "(rank 1) per step: the others wait for rank 1" in " ".join(ran.stderr.split())
    assert not list((tmp_path / "tmp").glob("fastpipe-ranks-*"))


def test_a_rank_that_does_not_come_is_not_waited_for_long(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "ranks", rank=0, size=3)
    meeting.bring(wait(0, 1.0))
    Meeting(tmp_path / "ranks", rank=2, size=3).bring(None)
    assert meeting.meet(patience_s=0.1) == ((wait(0, 1.0),), 1)
    meeting.leave()
    assert not (tmp_path / "ranks").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", "7", '{"rank": 1}', "x" * 9000, '{"rank": "1"}'])
def test_a_file_that_is_none_of_ours_is_left_out(tmp_path: Path, content: str) -> None:
    meeting = Meeting(tmp_path / "ranks", rank=0, size=2)
    meeting.bring(wait(0, 1.0))
    (tmp_path / "ranks" / "1.json").write_text(content, encoding="utf-8")
    assert meeting.meet(patience_s=0.1) == ((wait(0, 1.0),), 0)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks").chmod(0o777)
    with pytest.raises(PermissionError, match="not a private folder of this user"):
        Meeting(tmp_path / "ranks", rank=0, size=2).bring(None)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        Meeting(tmp_path / "link", rank=0, size=2).bring(None)


def test_one_rank_has_nobody_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert meeting_of(0) is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert meeting_of(0) is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert meeting_of(None) is None
    monkeypatch.setenv("GROUP_RANK", "1")
    assert meeting_of(5) is None, "rank 0 is on another machine"
    monkeypatch.setenv("GROUP_RANK", "0")
    found: Any = meeting_of(1)
    assert found.size == 2 and str(os.getppid()) in found.folder.name


def test_the_spread_in_words() -> None:
    assert spread_words((wait(0, 1.0),)) == ""
    assert spread_words((wait(0, 1.0), wait(1, 2.0))).endswith("per step: about the same.")
    assert "2.0 ms (rank 1) to 9.0 ms (rank 0) per step: the others wait for rank 0" in spread_words(
        (wait(0, 9.0), wait(1, 2.0))
    )
