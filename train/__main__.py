"""`python -m fastpipe.train` is `fastpipe-train`."""

import sys

from fastpipe.train.cli import main

sys.exit(main())
