"""torch's own tests of its DataLoader, with ours in its place. The file is torch's, and not kept here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Row, say

PRELUDE = (
    "import torch.utils.data, torch.utils.data.dataloader, fastpipe\n"
    "torch.utils.data.DataLoader = fastpipe.DataLoader\n"
    "import runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


def main() -> None:
    told = os.environ.get("FASTPIPE_TORCH_TESTS")
    if not told:
        why = (
            "not tried in this run: torch's wheel does not contain the file. FASTPIPE_TORCH_TESTS=PATH of "
            "test/test_dataloader.py of the installed torch runs it"
        )
        say(Row("test/test_dataloader.py", result="not tried", note=why))
        return
    program = Path(tempfile.mkdtemp()) / "prelude.py"
    program.write_text(PRELUDE)
    done = subprocess.run([sys.executable, str(program), told], capture_output=True, text=True, check=False)
    ran = re.search(r"Ran (\d+) tests", done.stderr)
    failed = re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE)
    if ran is None:
        say(Row("test/test_dataloader.py", result="FAILED", note=done.stderr.strip().splitlines()[-1:][0]))
        return
    result = "yes" if not failed else "partly"
    say(
        Row(
            f"test/test_dataloader.py: {ran[1]} tests",
            result=result,
            note="failed: " + ", ".join(failed) if failed else "",
        )
    )


if __name__ == "__main__":
    main()
