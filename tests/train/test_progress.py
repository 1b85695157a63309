"""What a run shows on a terminal and without one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fastpipe.train.progress import Display


def _shown(terminal: bool, *, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False)
    with Display(console, quiet=quiet) as display:
        display.start_epoch(2, 8, 10)
        display.step(loss=1.2345, images_per_s=321.0, wait_share=0.25, resolution=64)
        display.end_epoch()
        display.line("epoch 3/8  [not markup] " + "x" * 200)
    return out.getvalue()


def test_terminal_shows_epoch_loss_rate_and_waiting() -> None:
    shown = _shown(terminal=True)
    for part in ("epoch 3/8", "1/10", "loss 1.234", "321 images/s", "data wait 25%", "64 px"):
        assert part in shown


def test_elsewhere_only_plain_lines() -> None:
    shown = _shown(terminal=False)
    assert shown == "epoch 3/8  [not markup] " + "x" * 200 + "\n"
    assert "\x1b" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_prints_only_how_it_ended(terminal: bool) -> None:
    assert _shown(terminal, quiet=True) == ""
    out = io.StringIO()
    Display(Console(file=out, force_terminal=terminal, highlight=False), quiet=True).last("top-1 0.5 [raw]")
    assert out.getvalue() == "top-1 0.5 [raw]\n"
