"""`fastpipe-profile host [DATA]`: what this machine is, in a table and as JSON."""

from __future__ import annotations

import argparse

from fastpipe.profiling.commands.terminal import Outcome, status
from fastpipe.profiling.host.collect import make_card
from fastpipe.profiling.host.show import render_card


def run(args: argparse.Namespace) -> Outcome:
    """Look at the machine, and with DATA at its files."""
    with status("host card") as announce:
        card = make_card(args.data, announce, seconds=args.seconds)
    return Outcome(values=card, show=lambda console: render_card(card, console))
