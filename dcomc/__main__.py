"""The `dcomc` command, and `python -m dcomc`."""

import sys


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
