"""Write every reference file of this checkout anew, or check that none is out of date."""

import argparse
import sys

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, write_text
from dcomc.reference import FILES, ROOT


def main() -> int:
    """0, or 1 where `--check` finds a file that is not as the code gives it."""
    parser = argparse.ArgumentParser(prog="python -m dcomc.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    check: bool = parser.parse_args().check
    for name, text in ((name, write()) for name, write in FILES.items()):
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise DcomError(f"{name} is out of date", hint="run python -m dcomc.reference")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        print(f"wrote {name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
