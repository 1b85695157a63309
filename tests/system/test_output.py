"""`| head` ends each command in silence, with a shell's status of a closed pipe; a full disk is said."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastpipe.system.output import CLOSED, ends_with_its_reader, reader_is_gone

COMMANDS = {
    "fastpipe.train.cli": ["--list-recipes"],
    "fastpipe.profiling.cli": ["--help"],
    "fastpipe.storage.beton.cli": ["--help"],
}


def _prints() -> int:
    print("x")
    return 0


@contextmanager
def closed_stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output as a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        yield  # a command leads the stream elsewhere, so that closing it raises nothing


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_ends_with_its_reader(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed_stdout(monkeypatch):
        assert importlib.import_module(module).main(COMMANDS[module]) == CLOSED == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_what_is_buffered_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    @ends_with_its_reader
    def short() -> int:
        sys.stdout.write("one line")
        return 0

    with closed_stdout(monkeypatch):
        assert short() == CLOSED


def test_a_pipe_of_the_programs_own_is_an_error() -> None:
    @ends_with_its_reader
    def broken() -> int:
        raise BrokenPipeError("to a worker")

    with pytest.raises(BrokenPipeError, match="to a worker"):
        broken()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("fastpipe.train.cli").main
    for command in (
        lambda: main(["--list-recipes"]),
        ends_with_its_reader(_prints),
    ):
        with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", full)
            assert command() == 1
        assert "standard output cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["none", "closed"])
def test_a_program_that_has_no_output_any_more(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = None if gone == "none" else io.StringIO()
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    assert ends_with_its_reader(lambda: 3)() == 3


def test_streams_that_are_no_pipes() -> None:
    assert not reader_is_gone(io.StringIO()) and not reader_is_gone(None)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        assert not reader_is_gone(stream)
        os.close(reading)
        assert reader_is_gone(stream)
