"""`python -m dcomc` is the `dcomc` command."""

import sys

from dcomc.cli import main

sys.exit(main())
