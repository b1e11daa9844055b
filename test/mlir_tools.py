"""Upstream's `mlir-opt` as a test calls it. No Python package brings it: `make tools` installs Debian's."""

import re
import shutil
import subprocess
from functools import cache

OLDEST, NEWEST = 19, 30


@cache
def mlir_opt() -> tuple[str, int]:
    """The path of the newest `mlir-opt` there is, and its major version."""
    names = ("mlir-opt", *(f"mlir-opt-{version}" for version in range(NEWEST, OLDEST - 1, -1)))
    versions = {path: _version(path) for path in filter(None, map(shutil.which, names))}
    known = {path: version for path, version in versions.items() if version >= OLDEST}
    assert known, f"mlir-opt {OLDEST} or newer is missing: make tools, or apt-get install mlir-19-tools"
    return max(known.items(), key=lambda item: item[1])


def _version(path: str) -> int:
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)", printed)
    return int(found[1]) if found else 0


def optimise(text: str, *options: str) -> str:
    """Parse, verify and print a module by `mlir-opt`."""
    done = subprocess.run([mlir_opt()[0], "-", *options], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return done.stdout
