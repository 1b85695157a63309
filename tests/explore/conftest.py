"""Run folders as fastpipe-train writes them, and a browser for the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastpipe.train import load_recipe
from fastpipe.train.config.recipe import to_yaml

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder: `make_run("a/b", top1=[...], seed=1)`; `finished=False` leaves out the summary."""

    def make(
        name: str,
        *,
        recipe: str = "mild",
        top1: tuple[float | None, ...] = (0.3, 0.5, 0.6),
        train_s: float = 60.0,
        validation_s: float = 6.0,
        data: str = "demo",
        finished: bool = True,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = replace(load_recipe(recipe), epochs=len(top1), data=data, fit_to_data=False, **changes)
        (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        lines = [{"kind": "step", "step": 0, "epoch": 0, "loss": 1.0}]
        for epoch, quality in enumerate(top1):
            first = 10.0 if epoch == 0 else 0.0
            lines.append(
                {
                    "kind": "epoch",
                    "step": epoch,
                    "epoch": epoch,
                    "loss": 1.0,
                    "top1": quality,
                    "train_s": train_s + first,
                    "validation_s": validation_s,
                }
            )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
        if finished:
            summary = {
                "recipe": recipe,
                "model": config.model,
                "data": data,
                "top1": top1[-1],
                "epochs": len(top1),
                "images_per_s": 70.0,
                "device": "cpu",
                "time_to_train_s": train_s * len(top1),
            }
            (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return folder

    return make


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--enable-unsafe-swiftshader",
        "--use-angle=swiftshader",
    ),
    "--window-size=1440,1100",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a folder for downloads; skips, with the reason, where one is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium (pip install selenium)")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its driver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.downloads = downloads
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser on an empty page; fails a test that left an error in the console."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    yield chromium
    lines = [
        line["message"] for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")
    ]
    # The software renderer of a machine without a GPU remarks on itself.
    assert [line for line in lines if "GL Driver Message" not in line and "WebGL" not in line] == []
