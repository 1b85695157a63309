"""The writer: what goes in comes out, equal bytes from any number of processes, nothing left on failure."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from fastpipe.errors import ArgumentError, DataError, SampleError
from fastpipe.storage import Beton, BetonDataset, verify_beton, write_beton
from fastpipe.storage.beton import target as beton_target
from fastpipe.storage.beton import work as beton_work
from fastpipe.storage.beton import writer as beton_writer
from fastpipe.storage.beton.cli import main
from fastpipe.storage.beton.encode import encode_file
from fastpipe.storage.beton.work import place
from fastpipe.storage.jpeg import jpeg_facts


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes in every kind of file that the writer must tell apart, 40 images in all."""
    root = tmp_path / "mixed"
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(16):
            pixels = rng.integers(0, 255, (30 + i, 50 - i, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.jpg", quality=90)
    picture = Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8))
    picture.convert("L").save(root / "ant" / "grey.jpg")
    picture.save(root / "ant" / "progressive.jpeg", progressive=True)
    picture.convert("CMYK").save(root / "ant" / "cmyk.jpg")
    picture.save(root / "ant" / "photo.png")
    picture.convert("P").save(root / "bee" / "palette.png")
    picture.convert("RGBA").save(root / "bee" / "alpha.png")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    picture.save(root / "bee" / "turned.jpg", exif=rotated)
    picture.save(root / "bee" / "a PNG, really.jpg", format="PNG")
    return root


def test_passthrough_keeps_bytes_and_every_pixel(mixed: Path, tmp_path: Path) -> None:
    written = write_beton(mixed, tmp_path / "x.beton", num_workers=0)
    dataset, folder = BetonDataset(tmp_path / "x.beton"), ImageFolder(str(mixed))
    assert len(dataset) == len(folder) == written.num_images == 40
    assert dataset.classes == folder.classes and list(dataset.targets) == folder.targets
    for i, (path, label) in enumerate(folder.samples):
        assert dataset.samples[i] == (os.path.relpath(path, mixed), label)
        assert np.array_equal(dataset.rgb(i), folder[i][0]), path
        data = Path(path).read_bytes()
        kept = path.endswith(("jpg", "jpeg")) and "cmyk" not in path and "PNG" not in path
        assert (bytes(dataset.beton.encoded(i)) == data) == kept == (dataset.beton.modes[i] == 0)
    assert (written.num_kept, written.num_jpeg, written.num_raw) == (35, 0, 5)
    assert verify_beton(tmp_path / "x.beton", num_workers=0).bad == ()
    assert [name for name in os.listdir(tmp_path) if "tmp" in name] == []


def test_every_number_of_processes_writes_the_same_bytes(mixed: Path, tmp_path: Path) -> None:
    for workers in (0, 1, 3):
        write_beton(mixed, tmp_path / f"{workers}.beton", num_workers=workers)
    one = (tmp_path / "0.beton").read_bytes()
    assert all((tmp_path / f"{workers}.beton").read_bytes() == one for workers in (1, 3))


def test_modes(mixed: Path, tmp_path: Path) -> None:
    def write(**settings: Any) -> BetonDataset:
        write_beton(mixed, tmp_path / "m.beton", num_workers=0, overwrite=True, **settings)
        return BetonDataset(tmp_path / "m.beton")

    original = ImageFolder(str(mixed))
    raw = write(raw=True)
    assert set(raw.beton.modes.tolist()) == {1} and np.array_equal(raw.rgb(3), original[3][0])
    small = write(max_resolution=45)
    for i, (image, _) in enumerate(original):
        longest = max(image.size)
        expected = [max(1, side * 45 // longest) for side in image.size] if longest > 45 else [*image.size]
        assert [small.beton.widths[i], small.beton.heights[i]] == expected
        if longest <= 45:
            assert bytes(small.beton.encoded(i)) == Path(original.samples[i][0]).read_bytes()
    assert set(small.beton.modes.tolist()) == {0}
    again = write(quality=60)
    stream = io.BytesIO()
    original[3][0].save(stream, "JPEG", quality=60)
    assert bytes(again.beton.encoded(3)) == stream.getvalue() and set(again.beton.modes.tolist()) == {0}
    half = write(proportion=0.5, seed=1).beton.modes
    assert 10 <= half.sum() <= 30 and np.array_equal(half, write(proportion=0.5, seed=1).beton.modes)
    assert write(proportion=0.0).beton.modes.all() and not write(proportion=1.0).beton.modes.any()


def test_a_large_image_raises_the_page_size_and_no_image_crosses_a_page(tmp_path: Path) -> None:
    root = tmp_path / "big" / "a"
    root.mkdir(parents=True)
    for i, side in enumerate((900, 900, 2000, 900, 1500)):
        Image.new("RGB", (side, side), (i, 0, 0)).save(root / f"{i}.png")
    written = write_beton(root.parent, tmp_path / "x.beton", num_workers=0)
    beton = Beton(tmp_path / "x.beton")
    assert written.page_size == beton.page_size == 1 << 24
    ends = beton.pointers + beton.lengths - np.uint64(1)
    assert np.array_equal(beton.pointers // np.uint64(1 << 24), ends // np.uint64(1 << 24))
    assert written.ffcv_scratch_bytes(100) == 5 * 100 * 2000 * 2000 * 3


@pytest.mark.parametrize(
    ("position", "page", "size", "expected"),
    [(0, 8, 8, (0, 8)), (1, 8, 8, (8, 8)), (7, 8, 1, (7, 8)), (8, 8, 9, (16, 16)), (16, 8, 9, (16, 16))],
)
def test_place(position: int, page: int, size: int, expected: tuple[int, int]) -> None:
    assert place(position, page, size) == expected


def test_more_than_the_format_holds_is_refused() -> None:
    with pytest.raises(DataError, match="more than the format's"):
        place(0, 8, (1 << 31) + 1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"no image", "cut"], ids=["empty", "text", "cut"])
def test_a_bad_image_is_named_and_leaves_nothing(
    mixed: Path, tmp_path: Path, workers: int, content: Any
) -> None:
    bad = mixed / "bee" / "07.jpg"
    bad.write_bytes(bad.read_bytes()[:300] if content == "cut" else content)
    with pytest.raises(SampleError, match=r"bee/07\.jpg") as caught:
        write_beton(mixed, tmp_path / "x.beton", num_workers=workers)
    assert caught.value.path == str(bad)
    assert sorted(os.listdir(tmp_path)) == ["mixed"]


def test_bad_images_are_left_out_and_listed(mixed: Path, tmp_path: Path) -> None:
    for name in ("ant/00.jpg", "bee/turned.jpg"):
        (mixed / name).write_bytes(b"broken")
    written = write_beton(mixed, tmp_path / "x.beton", num_workers=2, on_error="skip")
    lines = [json.loads(line) for line in Path(written.skipped_list).read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(mixed / "ant/00.jpg"), str(mixed / "bee/turned.jpg")]
    assert [line["id"] for line in lines] == [0, 39] and "cannot be stored" in lines[0]["reason"]
    dataset = BetonDataset(tmp_path / "x.beton")
    kept = [
        (path, label) for path, label in ImageFolder(str(mixed)).samples if not path.endswith("turned.jpg")
    ]
    assert list(dataset.samples) == [(os.path.relpath(path, mixed), label) for path, label in kept[1:]]
    assert verify_beton(tmp_path / "x.beton", num_workers=2).bad == ()


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r" / "a").mkdir(parents=True)
    (tmp_path / "r" / "a" / "1.jpg").write_bytes(b"x")
    with pytest.raises(SampleError, match="none of the 1 images"):
        write_beton(tmp_path / "r", tmp_path / "x.beton", on_error="skip", num_workers=0)
    assert sorted(os.listdir(tmp_path)) == ["r"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_leaves_nothing(mixed: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "x.beton").write_bytes(b"what was there before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((8 << 20) + 20_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"x\.beton' cannot be written: File too large"):
            write_beton(mixed, tmp_path / "x.beton", num_workers=workers, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "x.beton").read_bytes() == b"what was there before"
    assert sorted(os.listdir(tmp_path)) == ["mixed", "x.beton"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "Name a file in a folder that you may write to"),
        (errno.EACCES, "Name a file in a folder that you may write to"),
        (errno.ENOSPC, "Free space in"),
        (errno.EIO, "Check the disk of"),
    ],
)
def test_a_folder_that_refuses_the_file_is_told_with_its_remedy(
    mixed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    remedy: str,
) -> None:
    # Such a file system refuses to remove what is not there by the same number; tests may run as root.
    def refuse(path: Any, *_: object) -> Any:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(beton_target, "open", refuse, raising=False)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(beton_writer, "open_index", lambda source: pytest.fail("nothing need be read"))
    assert main([str(mixed), str(tmp_path / "x.beton")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "x.beton' cannot be written: " in said and remedy in said


def test_a_disk_that_turns_read_only_meanwhile_is_an_error_of_one_line(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Any, *_: object) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    assert main([str(mixed), str(tmp_path / "x.beton"), "--workers", "0"]) == 1
    assert "Read-only file system" in capsys.readouterr().err


def test_a_reader_that_has_gone_changes_no_status(mixed: Path, tmp_path: Path) -> None:
    """As behind `| head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fastpipe.storage.beton.cli", str(mixed), str(tmp_path / "x.beton")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "") and len(Beton(tmp_path / "x.beton")) == 40


def test_a_killed_process_is_an_error_not_a_hang(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(path: str, i: int, encoding: Any) -> Any:
        if i == 35:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_file(path, i, encoding)

    monkeypatch.setattr(beton_work, "encode_file", encode)
    with pytest.raises(DataError, match="a writing process ended with code -9"):
        write_beton(mixed, tmp_path / "x.beton", num_workers=2)
    assert sorted(os.listdir(tmp_path)) == ["mixed"]


def write_slowly(source: Path, target: Path) -> None:
    def encode(path: str, i: int, encoding: Any) -> Any:
        time.sleep(0.1)
        return encode_file(path, i, encoding)

    beton_work.encode_file = encode
    sys.exit(main([str(source), str(target), "--workers", "2"]))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_it_leaves_nothing(mixed: Path, tmp_path: Path, number: int, status: int) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=write_slowly, args=(mixed, tmp_path / "x.beton"))
    process.start()
    while process.is_alive() and not any(path.stat().st_size for path in tmp_path.glob("*.tmp")):
        time.sleep(0.02)
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode == status
    assert sorted(os.listdir(tmp_path)) == ["mixed"]


def test_verify_finds_a_flipped_bit_and_what_stock_files_cannot_decode(
    mixed: Path, stock_beton: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.beton"
    assert main([str(mixed), str(target), "--workers", "1"]) == 0
    assert "40 images" in capsys.readouterr().out
    assert main(["--verify", str(target), "--workers", "1"]) == 0
    beton = Beton(target)
    with open(target, "r+b") as file:
        file.seek(int(beton.pointers[5]) + int(beton.lengths[5]) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    capsys.readouterr()
    assert main(["--verify", str(target), "--workers", "0"]) == 1
    out = capsys.readouterr().out
    assert "ant/05.jpg: the bytes differ from those that were written" in out and "40 images, 1 bad" in out
    assert main(["--verify", str(stock_beton.path), "--workers", "0"]) == 0
    assert "no checksums" in capsys.readouterr().out


def test_command_line(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "x.beton")
    assert main([str(mixed), target, "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "35 JPEG kept as is, 0 encoded as JPEG, 5 raw" in out and "stock ffcv.Loader will pin" in out
    for wrong, message in (
        ([str(mixed), target], "exists already"),
        ([str(mixed)], "SRC and DST.beton must be given"),
        ([str(mixed), str(tmp_path / "x.bin")], "must end in .beton"),
        ([str(mixed), str(tmp_path / "no" / "x.beton")], "the folder of path must exist"),
        ([str(mixed), target, "--passthrough", "--raw"], "--passthrough keeps bytes"),
        ([str(mixed), target, "--quality", "0", "--overwrite"], "quality must be in 1..100"),
        ([str(mixed), target, "--raw", "--quality", "9", "--overwrite"], "raw stores no JPEG"),
        ([str(tmp_path), target, "--split", "train"], "train"),
        (["--verify", target, target], "--verify takes no SRC"),
    ):
        status = main(wrong)
        assert message in capsys.readouterr().err and status in (1, 2)
    (tmp_path / "data").mkdir()
    for name in ("train", "val"):
        (tmp_path / "data" / name).symlink_to(mixed)
    assert main([str(tmp_path / "data"), str(tmp_path / "d.beton"), "--workers", "0"]) == 2
    assert "--split must be given" in capsys.readouterr().err
    command = [str(tmp_path / "data"), str(tmp_path / "d.beton"), "--split", "val", "--workers", "0"]
    assert main(command) == 0 and len(Beton(tmp_path / "d.beton")) == 40
    assert main([*command[:3], "test", "--workers", "0"]) == 2


def test_arguments(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="proportion must be in"):
        write_beton(mixed, tmp_path / "x.beton", proportion=2)
    with pytest.raises(ArgumentError, match="max_resolution must be in"):
        write_beton(mixed, tmp_path / "x.beton", max_resolution=0)
    with pytest.raises(ArgumentError, match="num_workers"):
        write_beton(mixed, tmp_path / "x.beton", num_workers=-1)


def test_jpeg_facts_of_cut_and_odd_files(mixed: Path) -> None:
    data = (mixed / "ant" / "00.jpg").read_bytes()
    facts = jpeg_facts(data)
    assert facts is not None and (facts.height, facts.width, facts.components) == (30, 50, 3)
    grey = jpeg_facts((mixed / "ant" / "grey.jpg").read_bytes())
    assert grey is not None and grey.components == 1
    assert jpeg_facts((mixed / "ant" / "cmyk.jpg").read_bytes()) is None
    assert jpeg_facts(data + b"trailing bytes") == facts
    for size in range(len(data) - 1):
        assert jpeg_facts(data[:size]) is None
