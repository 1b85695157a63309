"""`python -m fastpipe.profiling`: the same as `fastpipe-profile`."""

import sys

from fastpipe.profiling.cli import main

if __name__ == "__main__":
    sys.exit(main())
