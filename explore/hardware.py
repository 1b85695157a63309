"""A machine's name in two parts: its accelerators, and the host that feeds them."""

from __future__ import annotations

import re
from typing import NamedTuple

# "8x NVIDIA A100-SXM4-80GB (400W), 2x AMD EPYC 7742", "AWS p4d.24xlarge 8xA100-40GB"
_MACHINE = re.compile(
    r"(?P<name>.*?)(?<!\S)(?P<count>\d+)x\s*(?P<chip>[^,(]+?)\s*(?:\((?P<watts>\d+W)\))?\s*(?:,\s*(?P<host>.+))?"
)
# What several sources write differently for one part.
_SAME = (
    (re.compile(r"\(R\)|\(TM\)|\bNVIDIA |\bCPU\b|@ ?[\d.]+ ?GHz|\b\d+-Core Processor\b| CTS\b"), ""),
    (re.compile(r"\bSXM4\b"), "SXM"),
    (re.compile(r"\bPCIe\b"), "PCIE"),
    (re.compile(r"\bEPYC\b"), "AMD EPYC"),
    (re.compile(r"\bAMD AMD\b"), "AMD"),
    (re.compile(r"\s+"), " "),
)


class Hardware(NamedTuple):
    """Both are empty where the name does not say."""

    accelerators: str
    host: str


def split_hardware(name: str) -> Hardware:
    """The accelerators and the host, spelt alike for all sources; power is part of an accelerator's name."""
    system, _, rest = name.rpartition(": ")
    found = _MACHINE.fullmatch(rest)
    if found is None:
        return Hardware("", "")
    watts = f" {found['watts']}" if found["watts"] else ""
    chip = _plain(found["chip"])
    return Hardware(f"{found['count']}x {chip}{watts}", _plain(found["host"] or found["name"] or system))


def _plain(text: str) -> str:
    for pattern, instead in _SAME:
        text = pattern.sub(instead, text)
    return text.strip()
