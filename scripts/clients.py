"""Runs each client's program in its own environment; writes docs/compatibility.md from their output.

`clients.py [CLIENT ...]`: with names, only these are run, and the other rows come from their latest run.
Exit status 1 when something failed that is not a known "no".
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "tests" / "clients"
HOMES = ROOT / "build" / "clients"
PAGE = ROOT / "docs" / "compatibility.md"
OWN_TORCH = "# Own torch"
LIMIT_S = 900
HEAD = """# Compatibility

What fastpipe was seen to do inside other projects' code. `make test-clients` writes this page from a run.
[design/011-clients.md](design/011-clients.md) explains how and why.

- *result*: "yes" means that a check passed: the same losses as with torch's loader, or what the line says.
  "no" means a known limitation, with its reason and the way around it. "not tried" says what was missing.
- *fast path*: whether every fastpipe loader that was iterated was lifted, and which class was iterated. "not
  applicable" means that the data was not images, or that the check is about something else.

"""


def main(names: list[str]) -> int:
    """Run the clients that were named, or all; the page is written from the latest run of each."""
    known = sorted(path.stem for path in CLIENTS.glob("*.txt"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"a client must be one of {', '.join(known)}. Found: {', '.join(unknown)}", file=sys.stderr)
        return 2
    ran = {name: run(name) for name in names or known}
    failed = [(name, row) for name, rows in ran.items() for row in rows if row["result"] == "FAILED"]
    for name, row in failed:
        print(f"FAILED {name}: {row['tried']}: {row['note']}")
    print(f"{len(ran)} clients, {sum(map(len, ran.values()))} rows, {len(failed)} failed")
    missing = [name for name in known if not log_of(name).exists()]
    if failed or missing:
        print(f"docs/compatibility.md is unchanged: not yet run: {', '.join(missing) or 'none'}")
        return 1 if failed else 0
    PAGE.write_text(HEAD + page([described(name) for name in known]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def run(client: str) -> list[dict[str, str]]:
    """The client's rows, from its program in its environment; they stay in its log."""
    print(f"{client}:", flush=True)
    python = environment(client)
    started = time.monotonic()
    program = CLIENTS / "programs" / f"with_{client}.py"
    try:
        done = subprocess.run([python, program], capture_output=True, text=True, check=False, timeout=LIMIT_S)
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        output, status = f"ran for more than {LIMIT_S} s\n", 124
    if status or not rows_in(output):
        last = next(iter(reversed(output.strip().splitlines())), "no word")
        row = {"tried": "the program", "result": "FAILED", "fast": "", "note": f"status {status}: {last}"}
        output += f"\nROW {json.dumps(row)}\n"
    log_of(client).write_text(output, encoding="utf-8")
    for row in rows_in(output):
        print(f"  {row['result']:<9} {row['tried']}  [fast path: {row['fast']}] {row['note']}", flush=True)
    print(f"  {time.monotonic() - started:.0f} s", flush=True)
    return rows_in(output)


def log_of(client: str) -> Path:
    """The output of the client's program from its latest run."""
    return HOMES / f"{client}.log"


def rows_in(output: str) -> list[dict[str, str]]:
    """The rows among what a program printed."""
    return [json.loads(line[4:]) for line in output.splitlines() if line.startswith("ROW ")]


def described(client: str) -> dict[str, Any]:
    """A client of the page: its versions, and the rows of its latest run."""
    python = HOMES / client / "bin" / "python"
    rows = rows_in(log_of(client).read_text(encoding="utf-8"))
    return {
        "client": client,
        "version": version(client, python),
        "torch": version("torch", python),
        "rows": rows,
    }


def environment(client: str) -> Path:
    """The interpreter of the client's environment, made if its requirements are new."""
    requirements = CLIENTS / f"{client}.txt"
    text = requirements.read_text(encoding="utf-8")
    home = HOMES / client
    # .venv may change during a run; the other environments see its current state.
    own = (ROOT / "pyproject.toml").read_text(encoding="utf-8") if text.startswith(OWN_TORCH) else ""
    key = hashlib.sha256(f"{text}|{sys.version}|{ROOT}|{own}".encode()).hexdigest()
    stamp, python = home / "made-for", home / "bin" / "python"
    if stamp.exists() and stamp.read_text() == key:
        return python
    print("  making its environment", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    install = [*pip, "install", "-qq", "--requirement", requirements]
    if text.startswith(OWN_TORCH):
        subprocess.run([*install, "--editable", ROOT], check=True)
    else:
        share(home)
        subprocess.run(install, check=True)
    stamp.write_text(key)
    return python


def share(home: Path) -> None:
    """Give the environment access to the packages of .venv, including torch and fastpipe, after its own."""
    site = next((home / "lib").glob("python*/site-packages"))
    seen = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in seen]
    site.joinpath("zz_fastpipe.pth").write_text("".join(lines))


def version(client: str, python: Path) -> str:
    """The installed version of the package that the page names."""
    if client == "torch":
        name = "torch"
    else:
        lines = (CLIENTS / f"{client}.txt").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line and not line.startswith("#")).split(">=")[0]
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def page(results: list[dict[str, Any]]) -> str:
    """The matrix as a table of Markdown."""
    lines = ["| client | tried | result | fast path | reason, or what to write |", "|---|---|---|---|---|"]
    for one in results:
        name = f"{one['client']} {one['version']}"
        for row in one["rows"]:
            cells = [name, row["tried"], row["result"], row["fast"], row["note"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            name = ""
    torches = ", ".join(sorted({f"torch {one['torch']}" for one in results}))
    return (
        "\n".join(lines)
        + f"\n\nPython {platform.python_version()}, {torches}, {os.cpu_count()} CPUs, no GPU.\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
