"""Readings and facts of the data's own files, software, and the command `host`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastpipe.profiling.cli import main
from fastpipe.profiling.host import disk
from fastpipe.profiling.host.disk import disk_notes, forget, is_cached, pick, read_rates
from fastpipe.profiling.host.files import file_facts, file_notes
from fastpipe.profiling.host.software import jpeg_simd_gain, software_facts, software_notes


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_kinds_of_jpeg_are_counted(tmp_path: Path) -> None:
    kinds = {
        "plain.jpg": {"quality": 75, "subsampling": "4:2:0"},
        "full.jpg": {"quality": 75, "subsampling": "4:4:4"},
        "half.jpg": {"quality": 75, "subsampling": "4:2:2"},
        "progressive.jpg": {"quality": 75, "progressive": True},
    }
    for name, options in kinds.items():
        noise(32).save(tmp_path / name, "JPEG", **options)
    noise(32).convert("L").save(tmp_path / "grey.jpg", quality=75)
    noise(32).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=75)
    noise(32).save(tmp_path / "picture.png")
    (tmp_path / "text.jpg").write_text("no image")
    whole = (tmp_path / "plain.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    found = file_facts([str(path) for path in sorted(tmp_path.iterdir())], seconds=60)
    assert found["sampled"] == 9 and found["broken"] == 2
    assert found["formats"] == {"JPEG": 7, "PNG": 1}
    assert (found["progressive"], found["cmyk"], found["grey"]) == (1, 1, 1)
    # cut.jpg still says what it is; Pillow writes progressive as 4:2:0 and CMYK without subsampling.
    assert found["samplings"] == {"4:2:0": 3, "4:4:4": 2, "4:2:2": 1, "grey": 1}
    assert found["pixels"]["p50"] == 32 * 32 and found["quality"] == pytest.approx(75, abs=1)
    notes = " ".join(file_notes(found))
    assert "2 of 9 sampled files cannot be decoded" in notes and "cut.jpg" in notes
    assert "11% of the files are progressive" in notes and "CMYK" in notes


def test_a_data_set_of_broken_files_has_facts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("")
    found = file_facts([str(tmp_path / "a.jpg")], seconds=60)
    assert (found["sampled"], found["broken"], found["bytes"], found["quality"]) == (1, 1, None, None)


def write_files(folder: Path, num: int, size: int) -> tuple[list[str], list[int]]:
    for place in range(num):
        (folder / f"{place:04}").write_bytes(bytes([place % 251]) * size)
    return [str(path) for path in sorted(folder.iterdir())], [size] * num


def test_reads_take_whole_files_and_no_file_twice(tmp_path: Path) -> None:
    paths, sizes = write_files(tmp_path, 60, 5000)
    found = read_rates(paths, sizes, seconds=30)
    for name in ("in_order", "random", "random_threads"):
        assert found[name]["reads"] == 20 and found[name]["bytes"] == 20 * 5000
        assert 0 < found[name]["bytes_per_s"]["low"] <= found[name]["bytes_per_s"]["median"]
    extents = pick(paths, sizes, np.random.default_rng(1))
    assert len({path for some in extents for path, _, _ in some}) == 60
    assert [path for path, _, _ in extents[0]] == sorted(path for path, _, _ in extents[0])


def test_bounds_on_bytes_files_and_time(tmp_path: Path) -> None:
    paths, sizes = write_files(tmp_path, 40, 1000)
    assert read_rates(paths, sizes, seconds=30, most_bytes=4000)["in_order"]["bytes"] == 4000
    few = read_rates(paths, sizes, seconds=1e-9)  # one round, however little time there is
    assert few["in_order"]["rounds"] == 1 and few["in_order"]["reads"] == 2


def test_one_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    large = 1 << 20
    path = tmp_path / "train.beton"
    path.write_bytes(bytes(4 << 20))
    in_order, at_random, threaded = pick([str(path)], [4 << 20], np.random.default_rng(0), large_file=large)
    assert {size for _, _, size in in_order} == {128 << 10}
    assert not {offset for _, offset, _ in at_random} & {offset for _, offset, _ in threaded}
    assert read_rates([str(path)], [4 << 20], seconds=30, large_file=large)["random"]["reads"] == len(
        at_random
    )


def test_a_cache_that_does_not_let_go_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, sizes = write_files(tmp_path, 8, 1000)
    for answers, expected, words in (
        (True, False, "ignores POSIX_FADV_DONTNEED"),
        (False, True, "hypervisor"),
        (None, None, "It is unknown whether"),
    ):
        monkeypatch.setattr(disk, "is_cached", lambda path, answers=answers: answers)
        found = read_rates(paths, sizes, seconds=5)
        assert found["cold"] is expected and words in " ".join(disk_notes(found))


def test_memory_is_never_cold() -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("no /dev/shm on this system")
    path = shm / "fastpipe-card-test"
    path.write_bytes(bytes(4096))
    try:
        forget(str(path))
        assert is_cached(str(path)) in (True, None)
    finally:
        path.unlink()


def test_missing_files_are_no_crash(tmp_path: Path) -> None:
    assert forget(str(tmp_path / "none")) is False and is_cached(str(tmp_path / "none")) is None


def test_software_and_the_gain_of_vector_code() -> None:
    found = software_facts()
    assert {"torch", "torchvision", "pillow", "numpy", "fastpipe"} <= set(found["packages"])
    assert found["gil"] in ("on", "off", "on in a free-threaded build")
    gain = jpeg_simd_gain()
    assert gain is not None and gain > 0
    # Both without vector code, so that there is nothing to gain: the note must come.
    assert "vector code brings 1.02x" in " ".join(software_notes({**found, "jpeg_simd_gain": 1.02}))
    assert software_notes({**found, "jpeg_simd_gain": 1.6}) == []
    assert "without libjpeg-turbo" in " ".join(software_notes({**found, "pillow_jpeg": "libjpeg 9.6"}))


def test_the_command_prints_a_card_and_writes_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "card.json"
    assert main(["host", str(folder), "--seconds", "0.2", "--json", str(target)]) == 0
    out = capsys.readouterr().out
    for word in ("CPU", "usable", "/dev/shm", "at random, warm", "40 files, 2 classes", "GIL", "note: "):
        assert word in out
    card = json.loads(target.read_text(encoding="utf-8"))
    assert (card["schema"], card["schema_version"]) == ("fastpipe-host", 1)
    assert set(card) == {
        *(
            "schema",
            "schema_version",
            "created",
            "cpu",
            "memory",
            "gpus",
            "storage",
            "software",
            "data",
            "notes",
        )
    }
    assert card["data"]["files"] == 40 and card["storage"]["reads"]["random"]["reads"] > 0


def test_the_command_without_data_says_what_it_did_not_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host"]) == 0
    assert "no DATA was named" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status"), [(["./no/such/folder"], 1), (["--json", "no/such/x.json"], 2)]
)
def test_errors_are_one_line(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host", *arguments]) == status
    assert capsys.readouterr().err.startswith("fastpipe-profile: error: ")
