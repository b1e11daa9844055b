"""Mutated program files end in an error or in a run: a sample of what `benchmarks/fuzz.py` tries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
def test_mutants_of_programs_are_refused_or_run() -> None:
    command = [sys.executable, FUZZ, "--count", "300", "--seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": str(FUZZ.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["failed"] == 0
    assert results["refused"] > 100 and results["run"] > 30
