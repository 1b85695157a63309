"""best.ckpt: which epoch it is, that no moment of a crash loses or doubles it, and when a run stops early."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train import NoEffectWarning, runner
from fastpipe.train.best import Best, saved_best, settled
from fastpipe.train.checkpoint import BEST, link_checkpoint, load_checkpoint, save_checkpoint
from fastpipe.train.cli import main
from fastpipe.train.loop import Trainer
from fastpipe.train.metrics.outcome import Outcome
from fastpipe.train.metrics.table import metric_named

TOP1 = metric_named("top-1", "metric")
SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--num-workers", "0", "--backend", "torchvision", "--optimizer.lr", "0.02", "--ema", "null"),
    *("--progressive-resizing", "null", "--schedule.warmup-epochs", "0"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; 4 images of each to train on, 5 to validate on; no test split, which is one more pass."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 5)):
        for label in range(2):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


def tenths(right: float) -> Outcome:
    """A validation of 10 images with so many right; NaN: without an image."""
    if np.isnan(right):
        return Outcome(counts=torch.zeros(2, 3, dtype=torch.int64))
    return Outcome(counts=torch.tensor([[10, int(right), 10], [0, 0, 0]]), loss=10.0 - right)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, float]]:
    """The tenths that validations find, by the epochs done; steps only write the epoch into the weights."""
    right: dict[int, float] = {}

    def evaluate(self: Trainer, loader: Any, *, averaged: bool = True) -> Outcome:
        return tenths(right[self.epoch])

    def step(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            next(self.model.parameters()).fill_(float(self.epoch + 1))
        self.step += 1
        return torch.tensor(1.0)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    monkeypatch.setattr(Trainer, "train_step", step)
    yield right


def train(photos: Path, folder: Path, *more: str, epochs: int = 4) -> int:
    args = [*SMALL, "--data", str(photos), "--output-dir", str(folder), "--epochs", str(epochs), *more]
    return main([*args, "--resume", "auto"])


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def epoch_of(file: Path) -> tuple[int, float]:
    """The epochs that a checkpoint was written after, and the epoch whose weights it holds."""
    state = load_checkpoint(file)
    return state["epochs_measured"], float(next(iter(state["model"].values())).flatten()[0])


def saved_own(file: Path) -> bool:
    """Whether a checkpoint says that it is that of the best epoch."""
    own: bool = load_checkpoint(file)["best"]["own"]
    return own


def _damage(file: Path) -> None:
    """Another file with that name: the old one may be best.ckpt as well."""
    file.unlink()
    file.write_bytes(b"damaged")


def follow(values: Sequence[float]) -> Best:
    best = Best(metric=TOP1)
    for epoch, value in enumerate(values, start=1):
        best = best.after(epoch, value)
    return best


def test_ties_go_to_the_earlier_and_nan_is_never_the_best() -> None:
    nan, inf = float("nan"), float("inf")
    assert follow([0.5, 0.7, 0.7, 0.6]) == Best(metric=TOP1, epoch=2, value=0.7, since=2)
    assert follow([nan, 0.1, nan, inf]) == Best(metric=TOP1, epoch=2, value=0.1, since=2)
    assert follow([nan, nan]) == Best(metric=TOP1) and follow([nan, nan]).is_over(2, 2)
    assert Best(metric=TOP1).after(1, None) == Best(metric=TOP1)
    assert not follow([0.5, 0.4]).is_over(2, None) and not follow([0.5, 0.4]).is_over(2, 2)
    loss = Best(metric=metric_named("loss", "metric"), epoch=1, value=0.5, since=1)
    assert loss.after(2, 0.4).epoch == 2 and loss.after(2, 0.6) is loss


def test_the_best_epoch_is_kept_marked_and_named(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted |= {1: 5, 2: 8, 3: 8, 4: 6}
    assert train(photos, tmp_path / "run") == 0
    assert epoch_of(tmp_path / "run" / BEST) == (2, 2.0) and epoch_of(tmp_path / "run" / "last.ckpt") == (
        4,
        4.0,
    )
    assert summary_of(tmp_path / "run")["best"] == {
        "metric": "top-1",
        "value": pytest.approx(0.8),
        "epoch": 2,
        "checkpoint": "best.ckpt",
    }
    said = capsys.readouterr().out.splitlines()
    marked = [line.split()[1] for line in said if line.startswith("epoch") and "  best" in line]
    assert marked == ["1/4", "2/4"]
    assert "best top-1 0.800 after epoch 2 (best.ckpt)" in said[-1]
    assert summary_of(tmp_path / "run")["stopped_early"] is None and "stopped" not in said[-1]
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_best_epoch_is_kept_whatever_the_interval_of_checkpoints(
    photos: Path, tmp_path: Path, scripted: dict[int, float]
) -> None:
    scripted |= {1: 5, 2: 8, 3: 7, 4: 7}
    assert train(photos, tmp_path / "run", "--checkpoint-interval", "1000min") == 0
    assert epoch_of(tmp_path / "run" / BEST) == (2, 2.0)


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_crash_around_the_link_loses_and_doubles_nothing(
    moment: str, photos: Path, tmp_path: Path, scripted: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before last.ckpt of epoch 2, or between it and best.ckpt. The rest is not as good as epoch 2."""
    scripted |= {1: 5, 2: 8, 3: 6, 4: 7}
    calls: list[Path] = []

    def killed(*args: Any) -> None:
        calls.append(args[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        (save_checkpoint if moment == "before" else link_checkpoint)(*args)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "save_checkpoint" if moment == "before" else "link_checkpoint", killed)
        assert train(photos, tmp_path / "run") == 130
    assert epoch_of(tmp_path / "run" / BEST) == (1, 1.0)
    assert epoch_of(tmp_path / "run" / "last.ckpt")[0] == (1 if moment == "before" else 2)
    if moment == "between":
        # What is trained next must not be needed to bring the two together again.
        scripted |= {3: float("nan"), 4: float("nan")}
    assert train(photos, tmp_path / "run") == 0
    assert epoch_of(tmp_path / "run" / BEST) == (2, 2.0)
    assert summary_of(tmp_path / "run")["best"]["epoch"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [0, 1, 2, 3]


def test_a_stop_at_the_end_of_the_best_epoch_keeps_it(
    photos: Path, tmp_path: Path, scripted: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes during the validation of epoch 2."""
    import signal

    scripted |= {1: 5, 2: 8, 3: 6, 4: 7}
    evaluate = Trainer.evaluate

    def signalled(self: Trainer, loader: Any, *, averaged: bool = True) -> Outcome:
        if self.epoch == 2:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self, loader, averaged=averaged)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "evaluate", signalled)
        assert train(photos, tmp_path / "run") == 143
    assert epoch_of(tmp_path / "run" / BEST) == (2, 2.0)
    assert train(photos, tmp_path / "run") == 0
    assert epoch_of(tmp_path / "run" / BEST) == (2, 2.0)


def test_an_older_last_ckpt_goes_on_with_the_newer_best(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    """last.ckpt is damaged, so the run is set back from epoch 4 to 3, whose best.ckpt is of epoch 4."""
    folder = tmp_path / "run"
    scripted |= {1: 5, 2: 6, 3: 6, 4: 8, 5: 7}
    assert train(photos, folder) == 0
    third = (folder / "previous.ckpt").read_bytes()
    _damage(folder / "last.ckpt")
    with pytest.warns(UserWarning, match=r"Continuing from previous\.ckpt"):
        assert train(photos, folder) == 0
    assert "best.ckpt is of epoch 4, which is trained again" in capsys.readouterr().out
    assert summary_of(folder)["best"]["epoch"] == 4 and epoch_of(folder / BEST) == (4, 4.0)
    scripted[4] = 7  # as on a GPU, where epochs do not repeat bit for bit: what is worse replaces nothing
    _damage(folder / "last.ckpt")
    (folder / "previous.ckpt").write_bytes(third)
    with pytest.warns(UserWarning, match=r"Continuing from previous\.ckpt"):
        assert train(photos, folder) == 0
    assert saved_best(load_checkpoint(folder / BEST), TOP1) == Best(
        metric=TOP1, epoch=4, value=pytest.approx(0.8), since=4
    )
    assert not saved_own(folder / "last.ckpt") and saved_own(folder / BEST)
    scripted[4] = 9
    _damage(folder / "last.ckpt")
    (folder / "previous.ckpt").write_bytes(third)
    with pytest.warns(UserWarning, match=r"Continuing from previous\.ckpt"):
        assert train(photos, folder) == 0
    assert summary_of(folder)["best"]["value"] == pytest.approx(0.9)
    assert saved_best(load_checkpoint(folder / BEST), TOP1) == Best(
        metric=TOP1, epoch=4, value=pytest.approx(0.9), since=4
    )


def test_resuming_the_best_checkpoint_continues_from_its_epoch(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    scripted |= {1: 5, 2: 8, 3: 6, 4: 7}
    assert train(photos, folder) == 0
    scripted |= {3: 9, 4: 9}
    args = [*SMALL, "--data", str(photos), "--epochs", "4", "--resume", str(folder / BEST)]
    assert main([*args, "--output-dir", str(tmp_path / "other")]) == 0
    assert "after epoch 2" in capsys.readouterr().out
    assert summary_of(tmp_path / "other")["best"]["epoch"] == 3
    assert epoch_of(tmp_path / "other" / BEST) == (3, 3.0) and epoch_of(folder / BEST) == (2, 2.0)
    (folder / BEST).write_bytes(b"damaged")
    assert main([*args, "--output-dir", str(folder)]) == 1  # and not from previous.ckpt, which is later
    assert "best.ckpt' cannot be read" in capsys.readouterr().err


def test_a_checkpoint_in_another_folder_brings_its_best_along(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted |= {1: 5, 2: 8, 3: 6, 4: 7}
    assert train(photos, tmp_path / "run", "--early-stopping", "1") == 0
    args = [*SMALL, "--data", str(photos), "--epochs", "4", "--resume", str(tmp_path / "run" / "last.ckpt")]
    assert main([*args, "--output-dir", str(tmp_path / "other")]) == 0
    assert epoch_of(tmp_path / "other" / BEST) == (2, 2.0)
    (tmp_path / "run" / BEST).unlink()
    capsys.readouterr()
    assert main([*args, "--output-dir", str(tmp_path / "third")]) == 0
    assert "best.ckpt of epoch 2 is neither in" in capsys.readouterr().out
    assert summary_of(tmp_path / "third")["best"]["epoch"] == 4  # 0.7 after 0.8, whose weights are gone


def test_another_metric_starts_anew(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted |= {1: 8, 2: 7, 3: 6, 4: 5}
    assert train(photos, tmp_path / "run", "--early-stopping", "2") == 0
    assert summary_of(tmp_path / "run")["stopped_early"] == 3
    capsys.readouterr()
    assert train(photos, tmp_path / "run", "--best-metric", "loss") == 0
    assert "goes by another --best-metric: best.ckpt starts anew" in capsys.readouterr().out
    best = summary_of(tmp_path / "run")["best"]
    assert best == {"metric": "loss", "value": 5.0, "epoch": 4, "checkpoint": BEST}
    assert epoch_of(tmp_path / "run" / BEST) == (4, 4.0)


def test_early_stopping_ends_the_run_with_status_0(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    scripted |= {1: 5, 2: 8, 3: 8, 4: 7, 5: 9, 6: 9}
    assert train(photos, folder, "--early-stopping", "2", epochs=6) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith("stopped early after epoch 4")
    summary = summary_of(folder)
    assert (summary["stopped_early"], summary["epochs"], summary["best"]["epoch"]) == (4, 4, 2)
    assert summary["top1"] == pytest.approx(0.7)
    assert epoch_of(folder / BEST) == (2, 2.0) and epoch_of(folder / "last.ckpt") == (4, 4.0)
    assert train(photos, folder, "--early-stopping", "2", epochs=6) == 0  # it stays stopped
    assert epoch_of(folder / "last.ckpt") == (4, 4.0)
    assert train(photos, folder, "--early-stopping", "3", epochs=6) == 0  # more patience goes on
    assert summary_of(folder)["best"]["epoch"] == 5 and epoch_of(folder / "last.ckpt") == (6, 6.0)


def test_the_count_goes_on_after_a_resume(photos: Path, tmp_path: Path, scripted: dict[int, float]) -> None:
    scripted |= {1: 8, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5}
    stopped = tmp_path / "stopped"
    assert train(photos, stopped, "--early-stopping", "3", epochs=6) == 0
    whole = [path.read_text() for path in [stopped / "summary.json"]]
    assert json.loads(whole[0])["stopped_early"] == 4
    (tmp_path / "again").mkdir()
    for name in ("previous.ckpt", BEST):
        os.link(stopped / name, tmp_path / "again" / name)
    (tmp_path / "again" / "metrics.jsonl").write_text((stopped / "metrics.jsonl").read_text())
    with pytest.warns(UserWarning, match="previous"):
        assert train(photos, tmp_path / "again", "--early-stopping", "3", epochs=6) == 0
    assert summary_of(tmp_path / "again")["stopped_early"] == 4


def test_what_cannot_stop_early_is_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*SMALL, "--data", str(photos), "--epochs", "3", "--output-dir", str(tmp_path / "run")]
    assert main([*args, "--early-stopping", "0"]) == 2
    assert "early_stopping must be null (off) or at least 1 epoch. Found: 0" in capsys.readouterr().err
    assert main([*args, "--early-stopping", "1", "--extrapolate-from", "2"]) == 2
    assert "--early-stopping may end sooner" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_patience_as_long_as_the_run_warns(photos: Path, tmp_path: Path, scripted: dict[int, float]) -> None:
    scripted |= {1: 8, 2: 5}
    with pytest.warns(NoEffectWarning, match="early_stopping 1 stops nothing in 2 epochs"):
        assert train(photos, tmp_path / "run", "--early-stopping", "1", epochs=2) == 0
    assert summary_of(tmp_path / "run")["stopped_early"] is None


def test_a_checkpoint_of_an_earlier_version_starts_the_best_anew(tmp_path: Path) -> None:
    old = {"epochs_measured": 3, "epoch": 3, "epoch_so_far": {"fresh": True}}
    save_checkpoint(old, tmp_path / "last.ckpt")
    found, note = settled(load_checkpoint(tmp_path / "last.ckpt"), tmp_path / "last.ckpt", tmp_path, TOP1)
    assert found == Best(metric=TOP1, since=3) and "knows of no best epoch" in note
    assert not (tmp_path / BEST).exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_link_keeps_what_it_was_made_for(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk has no links."""
    last, best = tmp_path / "last.ckpt", tmp_path / BEST

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    save_checkpoint({"step": 1}, last)
    link_checkpoint(last, best)
    link_checkpoint(last, best)
    assert best.samefile(last) == links
    save_checkpoint({"step": 2}, last)
    assert load_checkpoint(best)["step"] == 1 and load_checkpoint(last)["step"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", BEST, "previous.ckpt"}


def test_a_disk_that_takes_no_best_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint({"step": 1}, tmp_path / "last.ckpt")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DataError, match=r"best\.ckpt' could not be written: No space .*--resume auto"):
        link_checkpoint(tmp_path / "last.ckpt", tmp_path / BEST)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_with_a_best_is_a_run(photos: Path, tmp_path: Path) -> None:
    from fastpipe.train.output.folder import make_folder

    (tmp_path / BEST).touch()
    with pytest.raises(ArgumentError, match="already holds a run"):
        make_folder(str(tmp_path), "mild", resuming=False)


def test_an_older_checkpoint_that_is_its_own_best_replaces_no_later_and_better_one(
    photos: Path, tmp_path: Path, scripted: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    """previous.ckpt, of epoch 3, was the best when it was written; best.ckpt is of epoch 4 and better."""
    folder = tmp_path / "run"
    scripted |= {1: 5, 2: 6, 3: 7, 4: 8}
    assert train(photos, folder) == 0
    assert saved_own(folder / "previous.ckpt")
    _damage(folder / "last.ckpt")
    scripted[4] = 6
    with pytest.warns(UserWarning, match=r"Continuing from previous\.ckpt"):
        assert train(photos, folder) == 0
    assert "best.ckpt is of epoch 4, which is trained again" in capsys.readouterr().out
    assert epoch_of(folder / BEST) == (4, 4.0)
    assert summary_of(folder)["best"]["value"] == pytest.approx(0.8)


@pytest.mark.parametrize("other", [False, True])
def test_after_a_resume_by_name_auto_goes_on_from_it(
    other: bool, photos: Path, tmp_path: Path, scripted: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--resume best.ckpt is killed before it saves; --resume auto must not take up epoch 4 again."""
    scripted |= {1: 5, 2: 8, 3: 6, 4: 7}
    assert train(photos, tmp_path / "run") == 0
    folder = tmp_path / ("other" if other else "run")
    args = [*SMALL, "--data", str(photos), "--epochs", "4", "--output-dir", str(folder)]

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", killed)
        assert main([*args, "--resume", str(tmp_path / "run" / BEST)]) == 130
    assert epoch_of(folder / "last.ckpt") == (2, 2.0) and epoch_of(folder / BEST) == (2, 2.0)
    assert not (folder / "previous.ckpt").exists()
    assert epoch_of(tmp_path / "run" / "last.ckpt")[0] == (4 if other else 2)
    scripted |= {3: 9, 4: 6}
    assert main([*args, "--resume", "auto"]) == 0
    assert summary_of(folder)["best"]["epoch"] == 3
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if line["kind"] == "epoch"]
    assert epochs == ([2, 3] if other else [0, 1, 2, 3])


def test_a_best_file_of_another_run_is_not_taken_for_ones_own(
    photos: Path, tmp_path: Path, scripted: dict[int, float]
) -> None:
    scripted |= {1: 5, 2: 8, 3: 6, 4: 9}
    assert train(photos, tmp_path / "one") == 0
    scripted |= {1: 6, 2: 5, 3: 5, 4: 5}
    assert train(photos, tmp_path / "two", epochs=4) == 0
    state = load_checkpoint(tmp_path / "two" / "previous.ckpt")
    (tmp_path / "two" / BEST).unlink()
    found, note = settled(state, tmp_path / "two" / "previous.ckpt", tmp_path / "one", TOP1)
    assert found.value is None and "starts anew" in note
