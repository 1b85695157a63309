"""W&B's offline folders: a file that wandb 0.31 wrote, and files made here, whole, torn and damaged."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest

from fastpipe.explore.collect import Collector
from fastpipe.explore.wire import fields

RECORDED = Path(__file__).parent / "data" / "run-m7euk3p3.wandb"
BLOCK = 32768


def collect(root: Path):
    collector = Collector([str(root)], published=False)
    collector.check()
    return collector.collect()


def varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def message(*parts: tuple[int, bytes | str]) -> bytes:
    """Parts with a length, by number."""
    found = b""
    for number, value in parts:
        data = value.encode() if isinstance(value, str) else value
        found += varint(number << 3 | 2) + varint(len(data)) + data
    return found


def history(**row: object) -> bytes:
    items = [(1, message((2, name), (16, json.dumps(value)))) for name, value in row.items()]
    return message((2, message(*items)))


def log(*records: bytes) -> bytes:
    """LevelDB's log: records in pieces that do not cross a block of 32 KiB."""
    data = b":W&B\xe1\xbe\x00"
    for record in records:
        first = True
        while True:
            room = BLOCK - len(data) % BLOCK
            if room < 7:
                data, room = data + bytes(room), BLOCK
            piece, record = record[: room - 7], record[room - 7 :]
            kind = {(True, False): 1, (True, True): 2, (False, True): 3, (False, False): 4}[
                first, bool(record)
            ]
            checksum = zlib.crc32(piece, zlib.crc32(bytes([kind])))
            data += struct.pack("<IHB", checksum, len(piece), kind) + piece
            first = False
            if not record:
                break
    return data


def write(root: Path, data: bytes, name: str = "offline-run-1") -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "run-abc.wandb").write_bytes(data)
    return folder


def test_what_wandb_wrote_is_read(tmp_path: Path) -> None:
    write(tmp_path, RECORDED.read_bytes())
    found = collect(tmp_path)
    (run,) = found.runs
    assert not found.problems and run.finished
    assert (run.title, run.family, run.kind) == ("my net", "W&B", "own")
    assert list(run.curve.quality) == [25.0, 50.0, 75.0], "the value that is no number is left out"
    assert run.config == {"lr": 0.1, "arch": "resnet18", "opt.wd": 0.0001}
    assert run.minutes.stated == pytest.approx(0.01202, abs=1e-4)


def test_a_record_may_cross_blocks(tmp_path: Path) -> None:
    settings = message((1, message((1, "notes"), (16, json.dumps("x" * 100_000)))))
    rows = [history(_timestamp=100.0 + 60 * i, accuracy=i, filler="y" * 5000) for i in range(40)]
    write(tmp_path, log(message((17, message((4, settings), (8, "big")))), *rows, message((18, b""))))
    (run,) = collect(tmp_path).runs
    assert run.finished and run.title == "big" and len(run.config["notes"]) == 100_000
    assert list(run.curve.quality) == list(map(float, range(40)))
    assert run.minutes.stated == pytest.approx(39.0)


def test_a_file_that_is_still_written_gives_what_is_there(tmp_path: Path) -> None:
    whole = RECORDED.read_bytes()
    seen = set()
    for end in range(0, len(whole), 7):
        folder = write(tmp_path, whole[:end], f"at-{end}")
        found = collect(folder)
        for run in found.runs:
            assert list(run.curve.quality) == [25.0, 50.0, 75.0][: len(run.curve.quality)]
            seen.add(len(run.curve.quality))
        assert found.runs or found.problems
    assert seen == {1, 2, 3}


def test_damage_is_named_and_what_came_before_is_kept(tmp_path: Path) -> None:
    data = bytearray(RECORDED.read_bytes())
    data[data.rindex(b"0.75")] ^= 1
    write(tmp_path, bytes(data))
    found = collect(tmp_path)
    assert list(found.runs[0].curve.quality) == [25.0, 50.0]
    assert "cannot be read to its end: the record at byte" in found.problems[0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "does not begin as W&B's files do"),
        (b"text", "does not begin as W&B's files do"),
        (log(b"\xff" * 12), "a number has no end"),
        (log(message((2, b"\x0a\x7f"))), "longer than its message"),
        (log(history(_timestamp=1.0, loss=1.0)), "W&B has no accuracy here"),
        (log(history(accuracy=1.0)), "W&B has no accuracy here"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    write(tmp_path, data)
    found = collect(tmp_path)
    assert not found.runs and any(problem in line for line in found.problems)


def test_the_wire_format() -> None:
    data = bytes.fromhex("089601") + message((2, "testing")) + b"\x19" + struct.pack("<d", 0.5)
    assert list(fields(data)) == [(1, 150), (2, b"testing"), (3, 0.5)]
