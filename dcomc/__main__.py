"""The `dcomc` command, and `python -m dcomc`."""

import os
import sys

# libgomp, whose threads torch multiplies with, reads this when it is loaded: how often a thread that has no more work
# looks for some before it sleeps. By its default, milliseconds, it would keep a core from kernels that are not torch's.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> int:
    """Run the command line; an interrupt while the first modules are loaded is one line, as it is later."""
    try:
        from dcomc.cli import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
