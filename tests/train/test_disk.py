"""What a run writes: at once, line by line; and a disk that takes no more is named, whatever the file."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fastpipe.errors import DataError
from fastpipe.train import export as export_module
from fastpipe.train.checkpoint import save_checkpoint
from fastpipe.train.disk import save_tensors, why_not_written
from fastpipe.train.export import export
from fastpipe.train.output.folder import RunFolder


@contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    """No file grows beyond `num_bytes`: stands for a full disk, with another number of the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    """Also behind a rewind, as in a resumed run; nobody has flushed."""
    folder = RunFolder(tmp_path)
    folder.log("step", 0, {"epoch": 0, "loss": 1.0})
    assert [line["loss"] for line in _lines(tmp_path)] == [1.0]
    folder.rewind(0, 0)
    folder.log("step", 0, {"epoch": 0, "loss": 2.0})
    assert [line["loss"] for line in _lines(tmp_path)] == [2.0]
    folder.close()


def test_a_disk_error_comes_as_itself_and_not_as_torchs(tmp_path: Path) -> None:
    with at_most(100_000), pytest.raises(OSError, match="File too large") as caught:
        save_tensors({"w": torch.ones(100_000)}, tmp_path / "weights.pt")
    assert why_not_written(caught.value) == "File too large"
    save_tensors({"w": torch.ones(3)}, tmp_path / "weights.pt")
    assert torch.load(tmp_path / "weights.pt", weights_only=True)["w"].tolist() == [1.0] * 3


def test_what_is_no_disk_error_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: object, file: object) -> None:
        raise RuntimeError("a tensor that cannot be saved\nmore")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(RuntimeError) as caught:
        save_tensors({}, tmp_path / "weights.pt")
    assert why_not_written(caught.value) == "a tensor that cannot be saved"


WRITES: dict[str, Callable[[RunFolder], object]] = {
    "metrics.jsonl": lambda folder: folder.log("step", 0, {"epoch": 0, "x" * 5000: 1.0}),
    "config.yaml": lambda folder: folder.write_config("a: 1\n" * 1000),
    "environment.json": lambda folder: folder.write_environment({"cpu": "x" * 5000}),
    "summary.json": lambda folder: folder.write_summary({"text": "x" * 5000}),
}


@pytest.mark.parametrize("name", WRITES)
def test_every_file_of_a_run_folder_names_the_full_disk(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with at_most(2000):
        with pytest.raises(
            DataError, match=rf"{name}' could not be written: File too large\. .*--resume auto"
        ):
            WRITES[name](folder)
        folder.close()  # and says nothing more


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk that fails, and from then on is read-only: it keeps what is there."""

    def refusing(number: int) -> Callable[..., None]:
        def refuse(path: object, *_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number), str(path))

        return refuse

    monkeypatch.setattr(os, "replace", refusing(errno.EIO))
    monkeypatch.setattr(Path, "unlink", refusing(errno.EROFS))
    return tmp_path


def test_what_cannot_be_cleared_away_hides_no_error_of_a_checkpoint(read_only: Path) -> None:
    """Nor does what an earlier run left there."""
    (read_only / ".last.ckpt.1.tmp").touch()
    with pytest.raises(DataError, match=r"last\.ckpt' could not be written: Input/output error\."):
        save_checkpoint({"step": 1}, read_only / "last.ckpt")


def test_what_cannot_be_cleared_away_hides_no_error_of_an_export(
    read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"w": torch.ones(1)}
    trained = SimpleNamespace(
        averaged=False, weights=lambda: {"raw": weights}, for_others=lambda weights: weights
    )
    monkeypatch.setattr(export_module, "read_trained", lambda checkpoint: trained)
    monkeypatch.setattr(export_module, "_card", lambda *_: {})
    monkeypatch.setattr(export_module, "_rebuild", lambda trained, suffix: [])
    with pytest.raises(DataError, match=r"model\.pt': Input/output error$"):
        export(read_only / "last.ckpt", read_only / "model.pt")
