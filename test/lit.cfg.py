"""How `lit test` runs the FileCheck tests: `dcomc` and `filecheck` of the Python in use, from this checkout."""

import os
import shlex
import sys
from pathlib import Path

import lit.formats

# lit runs this file with the test suite's configuration in its globals.
suite = globals()["config"]
root = Path(__file__).resolve().parents[1]

suite.name = "dcomc"
suite.test_format = lit.formats.ShTest(execute_external=False)
suite.suffixes = [".mlir", ".test"]
suite.excludes = ["Inputs"]
suite.test_source_root = str(root / "test")
suite.substitutions.append(("%dcomc", f"{shlex.quote(sys.executable)} -m dcomc"))
suite.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
suite.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
