"""Fixtures for every room, and what a run must say about the tests it left out."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

CLASSES = ("birch", "granite", "water")
PER_CLASS = 8
LEFT_OUT = pytest.StashKey[Counter[str]]()
# What FASTPIPE_REQUIRE may name. The tests of a file with such a name in its own carry the mark.
PARTS = ("ffcv", "dali", "kornia", "cuda_gates", "turbo_built", "tables", "debian")
NATIVE = importlib.util.find_spec("fastpipe._turbo") is not None
OPTIONAL_DATA = "FASTPIPE_TEST_DATA"


class Parts:
    """Counts the tests of each optional part; what FASTPIPE_REQUIRE names must run without a skip.

    Without it a backend that is not installed, or cannot be imported any more, leaves a green run.
    """

    def __init__(self, required: str) -> None:
        self.required = [part for part in required.replace(",", " ").split() if part]
        self.counts: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
        self.skipped_files: list[str] = []
        for part in self.required:
            if part not in PARTS:
                raise pytest.UsageError(f"FASTPIPE_REQUIRE may name {', '.join(PARTS)}. Found: {part!r}")

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        for part in PARTS:
            if part in item.path.stem:
                item.add_marker(part)
        if item.get_closest_marker("turbo_built") and not NATIVE:
            item.add_marker(pytest.mark.skip(reason="fastpipe._turbo was not built: no C++ compiler"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        finished = report.when == "call" or not report.passed
        # The photos of FASTPIPE_TEST_DATA are not in the repository: their tests are optional everywhere.
        if finished and not (report.skipped and OPTIONAL_DATA in str(report.longrepr)):
            for part in PARTS:
                if item.get_closest_marker(part):
                    self.counts[part][report.outcome] += 1
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that skips itself while it is imported leaves no item that could carry a mark."""
        if report.skipped:
            self.skipped_files.append(f"{report.nodeid} {report.longrepr}")

    def complaints(self) -> list[str]:
        """Why this run did not test what was required."""
        found = []
        for part in self.required:
            counts, files = self.counts[part], [file for file in self.skipped_files if part in file]
            if counts["skipped"] or files:
                found.append(f"{part}: {counts['skipped']} tests and {len(files)} files were skipped")
            elif not counts["passed"]:
                found.append(f"{part}: no test of it passed")
        return found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for part, counts in self.counts.items():
            if counts or part in self.required:
                numbers = ", ".join(
                    f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped")
                )
                terminalreporter.write_line(f"{part}: {numbers}")
        for complaint in self.complaints():
            terminalreporter.write_line(f"FASTPIPE_REQUIRE: {complaint}", red=True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.complaints() and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


class LeftBehind:
    """Names processes that outlive the file of tests that started them, and the CPU time they took.

    One that goes round in circles takes a core from all tests behind it, and is charged to whoever measures
    the process tree.
    """

    def __init__(self) -> None:
        self.started_in: dict[psutil.Process, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        if nextitem is None or nextitem.path != item.path:
            for child in psutil.Process().children(recursive=True):
                self.started_in.setdefault(child, item.nodeid.partition("::")[0])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for child, file in self.started_in.items():
            with contextlib.suppress(psutil.Error):
                spent = sum(child.cpu_times()[:2])
                command = " ".join(child.cmdline())[:100]
                terminalreporter.write_line(f"left behind by {file}: {spent:.1f} CPU-s, {command}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="fail without a CUDA device, and when no test ran to its end",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores Ctrl-C and its children inherit that: those tests would hang there.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[LEFT_OUT] = Counter()
    config.pluginmanager.register(Parts(os.environ.get("FASTPIPE_REQUIRE", "")), "fastpipe-parts")
    config.pluginmanager.register(LeftBehind(), "fastpipe-left-behind")
    if importlib.util.find_spec("fastpipe") is None or importlib.util.find_spec("fastpipe.kernels") is None:
        raise pytest.UsageError("fastpipe.kernels cannot be imported: run `pip install -e .` first")
    if config.getoption("--require-gpu") and not torch.cuda.is_available():
        raise pytest.UsageError("--require-gpu (make test-gpu): torch finds no CUDA device on this machine")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        marks = [name for name in ("gpu", "slow", "debian") if item.get_closest_marker(name)]
        item.config.stash[LEFT_OUT].update(marks[:1])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash[LEFT_OUT]
    if config.getoption("--require-gpu"):
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device here"
    if left_out["gpu"]:
        terminalreporter.write_line(
            f"not run: {left_out['gpu']} gpu tests ({device}): make test-gpu runs them"
        )
    for name in ("slow", "debian"):
        if left_out[name]:
            terminalreporter.write_line(f"not run: {left_out[name]} {name} tests: make test-full runs them")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--require-gpu") and reporter and not reporter.stats.get("passed"):
        reporter.write_line("\n--require-gpu: no test ran to its end", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests finds no index of theirs in the cache directory afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTPIPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _photo(rng: np.random.Generator, height: int, width: int, hue: int) -> Image.Image:
    """A smooth RGB picture with some noise: it compresses as a photo does, and classes differ in colour."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x / rng.uniform(8, 30) + y / rng.uniform(8, 30))[..., None] * 60 + 128
    tint = np.where(np.arange(3) == hue, 50, 0)
    noise = rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(waves + tint + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: 3 classes of 8 images, all sizes different, one grey JPEG and one PNG a class."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for hue, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir()
        for index in range(PER_CLASS):
            height, width = rng.integers(48, 160, 2).tolist()
            photo = _photo(rng, height, width, hue)
            if index == PER_CLASS - 1:
                photo.save(folder / f"{index:02}.png")
            else:
                photo.convert("L" if index == 0 else "RGB").save(folder / f"{index:02}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder in FASTPIPE_TEST_DATA: real photos, `clothing/` and `photos400/`, not in the repository."""
    folder = os.environ.get("FASTPIPE_TEST_DATA")
    if not folder:
        pytest.skip("FASTPIPE_TEST_DATA names no folder with clothing/ and photos400/")
    if not Path(folder).is_dir():
        pytest.fail(f"FASTPIPE_TEST_DATA={folder} is not a folder")
    return Path(folder)
