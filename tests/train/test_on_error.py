"""One broken JPEG: the run stops and names a remedy that exists, or leaves it out, and counts it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.batch.mend import Mender, Policy
from fastpipe.errors import DataError, NoEffectWarning, SampleError
from fastpipe.storage import write_beton
from fastpipe.train.broken import broken_words, in_options
from fastpipe.train.cli import main, parse
from fastpipe.train.config.checks import check_on_error
from fastpipe.train.loop import Trainer
from fastpipe.types import Request

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--optimizer.lr", "0.02"),
    *("--backend", "torchvision", "--epochs", "2", "--ema", "null", "--progressive-resizing", "null"),
    *("--schedule.warmup-epochs", "0"),
)
BROKEN = {"train": ("red/03.jpg", "green/05.jpg"), "val": ("red/01.jpg",), "test": ()}
COUNTS = {"train": 12, "val": 5, "test": 3}


def _photos(root: Path, broken: dict[str, Any]) -> Path:
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label, name in enumerate(("red", "green")):
            own = root / split / name
            own.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{number:02d}.jpg")
        for name in broken[split]:
            path = root / split / name
            path.write_bytes(path.read_bytes()[:200])  # cut off within its header
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No quarantine list of another test, and none left behind."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photos(tmp_path_factory.mktemp("photos"), BROKEN)


def _summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def _args(photos: Path, out: Path, *more: str) -> list[str]:
    return [*SMALL, "--data", str(photos), "--output-dir", str(out), "--batch-size", "6", *more]


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_a_run_goes_on_and_counts(
    on_error: str, workers: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(_args(photos, out, "--on-error", on_error, "--num-workers", workers)) == 0
    summary, done = _summary(out), "skipped" if on_error == "skip" else "replaced"
    other = "replaced" if on_error == "skip" else "skipped"
    assert summary["on_error"] == on_error
    assert summary["broken_samples"] == {
        "train": {done: 4, other: 0},  # two in each of two epochs
        "validation": {done: 1, other: 0},
        "test": {done: 0, other: 0},
    }
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"4 samples {done} in train" in said and f"1 sample {done} in validation" in said
    assert "in test" not in said and other not in said
    # Of 10 images 9 can be measured; a replaced one has another of its class in its place.
    assert summary["top1"] in [k / (9 if on_error == "skip" else 10) for k in range(11)]
    again = ["--evaluate", str(out / "last.ckpt"), "--data", str(photos), "--json", "--num-workers", "0"]
    assert main(again) == 0  # as in training if nothing is said
    validation = json.loads(capsys.readouterr().out)["weights"]["raw"]["validation"]
    assert validation["broken_samples"] == {done: 1, other: 0} and validation["top1"] == summary["top1"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_without_it_the_message_names_an_option_that_exists(
    workers: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_args(photos, tmp_path / "run", "--num-workers", workers)) == 1
    error = capsys.readouterr().err
    assert "--on-error skip or --on-error replace" in error and ".jpg" in error
    assert "on_error=" not in error and "DataLoader" not in error and "Traceback" not in error


def test_a_broken_image_of_validation_stops_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = _photos(tmp_path / "photos", {**BROKEN, "train": ()})
    out = tmp_path / "run"
    assert main(_args(own, out, "--num-workers", "0")) == 1
    assert "--on-error skip" in capsys.readouterr().err
    assert main(_args(own, tmp_path / "whole", "--num-workers", "0", "--on-error", "skip")) == 0
    checkpoint = str(tmp_path / "whole" / "last.ckpt")
    evaluate = ["--evaluate", checkpoint, "--data", str(own), "--num-workers", "0"]
    assert main([*evaluate, "--on-error", "raise"]) == 1
    assert "--on-error skip" in capsys.readouterr().err
    assert main(evaluate) == 0
    assert "1 sample skipped in validation" in capsys.readouterr().out


@pytest.mark.parametrize("storage", ["single", "pair"])
def test_beton_files_too(storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their broken images are named by the file, and counted alike."""
    whole = _photos(tmp_path / "photos", {"train": (), "val": (), "test": ()})
    name = "train" if storage == "pair" else "flowers"
    data = tmp_path / f"{name}.beton"
    write_beton(whole / "train", data, num_workers=1)
    write_beton(whole / "val", tmp_path / "val.beton", num_workers=1)
    content = bytearray(data.read_bytes())
    second = content.index(b"\xff\xd8\xff", content.index(b"\xff\xd8\xff") + 3)
    content[second + 2 : second + 150] = bytes(148)  # its tables are gone
    data.write_bytes(content)
    more = ("--num-workers", "0", "--held-out", "0.3")
    with pytest.warns(NoEffectWarning) if storage == "pair" else _nothing():
        assert main(_args(data, tmp_path / "a", *more)) == 1
    assert "give --on-error skip or --on-error replace" in capsys.readouterr().err
    with pytest.warns(NoEffectWarning) if storage == "pair" else _nothing():
        assert main(_args(data, tmp_path / "b", *more, "--on-error", "replace")) == 0
    broken = _summary(tmp_path / "b")["broken_samples"]
    assert sum(counts["replaced"] for counts in broken.values()) in (1, 2)


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_a_resumed_run_goes_on_counting(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second epoch: what was counted up to the checkpoint, and what came behind it."""
    train_step = Trainer.train_step

    def interrupted(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.step == 5:
            raise KeyboardInterrupt
        return train_step(self, images, labels)

    args = _args(photos, tmp_path / "run", "--num-workers", "0", "--on-error", "skip", "--resume", "auto")
    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert main(args) == 130
    monkeypatch.undo()
    assert main(args) == 0
    assert _summary(tmp_path / "run")["broken_samples"]["train"] == {"skipped": 4, "replaced": 0}


def test_too_many_broken_images_name_the_option_that_allows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"{name}/{number:02d}.jpg" for name in ("red", "green") for number in range(3))
    own = _photos(tmp_path / "photos", {**BROKEN, "train": names})
    args = _args(own, tmp_path / "a", "--num-workers", "0", "--on-error", "replace")
    assert main(args) == 1
    error = capsys.readouterr().err
    assert "--max-bad 0.01" in error and "give a larger --max-bad" in error and "max_bad" not in error
    more = ("--num-workers", "0", "--on-error", "replace", "--max-bad", "0.5")
    assert main(_args(own, tmp_path / "b", *more)) == 0
    assert _summary(tmp_path / "b")["broken_samples"]["train"]["replaced"] == 12


def test_skip_is_refused_by_name_in_several_processes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(_args(photos, tmp_path / "run", "--on-error", "skip", "--nproc", "2")) == 2
    assert "on_error must be raise or replace with several processes (2 here)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    config = parse(["--on-error", "skip"]).config
    check_on_error(config, 1)
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    assert "--on-error skip" not in in_options(SampleError("cannot decode the image 'x.jpg'"))


def test_max_bad_without_a_policy_says_that_it_does_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.warns(NoEffectWarning, match="max_bad limits what on_error skips"):
        main(_args(photos, tmp_path / "run", "--max-bad", "0.5", "--num-workers", "0"))
    assert main([*SMALL, "--max-bad", "0"]) == 2


def test_messages_that_name_no_remedy_get_one() -> None:
    assert in_options(SampleError("'x.jpg' cannot be read.")).endswith(
        "Or give --on-error skip or --on-error replace"
    )
    assert in_options(DataError("no such folder")) == "no such folder"
    unreadable = "the list cannot be read (gone). Name another file, or pass quarantine=False"
    assert in_options(DataError(unreadable)).endswith("Make it readable, or delete it")


def test_a_batch_of_which_nothing_is_left_is_a_step_less(tmp_path: Path) -> None:
    """Batches of one image: two of them are broken in each epoch."""
    own = _photos(tmp_path / "photos", BROKEN)
    out = tmp_path / "run"
    more = ("--num-workers", "0", "--on-error", "skip", "--fit-to-data", "false", "--train-resolution", "64")
    assert main([*_args(own, out, *more), "--batch-size", "1", "--optimizer.lr", "0.0002"]) == 0
    summary = _summary(out)
    assert (summary["steps"], summary["left_out_steps"]) == (2 * 22, 2 * 2)
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "step"] == [*range(22), *range(24, 46)]
    assert torch.load(out / "last.ckpt", weights_only=True)["step"] == 48


def test_what_is_said_of_a_skipped_sample_recommends_no_skipping(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(_args(photos, tmp_path / "run", "--num-workers", "0", "--on-error", "skip")) == 0
    said = [record.getMessage() for record in caplog.records if "skipped sample" in record.getMessage()]
    assert len(said) == 3 and not any("on_error" in line or "DataLoader" in line for line in said)
    assert all("Replace or delete the file" in line for line in said)


def test_words() -> None:
    counts = {"train": {"skipped": 1, "replaced": 2}, "test": {"skipped": 0, "replaced": 0}}
    assert list(broken_words(counts)) == ["1 sample skipped in train", "2 samples replaced in train"]


def test_a_copy_without_broken_images_counts_none(photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    for split, names in BROKEN.items():
        for name in names:
            (own / split / name).unlink()
    assert main(_args(own, tmp_path / "run", "--num-workers", "0")) == 0
    broken = _summary(tmp_path / "run")["broken_samples"]
    assert {number for counts in broken.values() for number in counts.values()} == {0}


def test_an_image_that_could_not_be_replaced_is_told_in_whole_sentences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And without the advice to replace it."""
    advice = """Write it again, or pass on_error="skip" or on_error="replace" to the DataLoader"""
    mending = Mender([], Policy(on_error="replace"))
    monkeypatch.setattr(mending, "substitutes", lambda *_: iter(()))
    request = Request(seed=1, epoch=0, batch=0, ids=np.arange(1), repeats=np.zeros(1, dtype=np.int64))
    with pytest.raises(SampleError) as caught:
        mending.batch(request).mend(0, SampleError(f"sample 0 cannot be decoded. {advice}"), lambda *_: None)
    assert str(caught.value).endswith(
        "DataLoader. No other sample has its label, so there is no replacement."
    )
    start = "sample 0 cannot be decoded. Write it again. No other sample has its label"
    start += ", so there is no replacement"
    assert in_options(caught.value) == f"{start}. Or give --on-error skip"
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    assert in_options(caught.value) == f"{start}. Repair such images, or remove them"


@pytest.mark.parametrize(("label", "told"), [("0.5", "No other sample has its label"), ("a|b", "")])
def test_lists_of_several_labels_and_of_numbers_replace_what_has_the_same_label(
    label: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that no other image has cannot be replaced; a set of labels that others have can."""
    own, lines = _photos(tmp_path / "photos", {"train": (), "val": (), "test": ()}), ["path,label,split"]
    for split, count in (("train", 24), ("val", 10)):
        for number, file in enumerate(sorted((own / split).rglob("*.jpg"))[:count]):
            other = ("a", "b", "a|b")[number % 3] if "|" in label else str(1.5 + number)
            lines.append(f"{file},{label if number == 2 else other},{split}")
            if number == 2 and split == "train":
                file.write_bytes(b"no image")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    columns = ("--table.separator", "|") if "|" in label else ()
    more = ("--on-error", "replace", "--num-workers", "0", "--max-bad", "0.5")
    args = _args(tmp_path / "list.csv", tmp_path / "run", *columns, *more)
    assert main(args) == (1 if told else 0)
    said = capsys.readouterr().err
    if told:
        assert f". {told}, so there is no replacement. Or give --on-error skip" in said
    else:
        assert _summary(tmp_path / "run")["broken_samples"]["train"]["replaced"] == 2
