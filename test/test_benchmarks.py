"""What benchmarks compute themselves is right; the other tools that they measure are not run."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_product_beside_scale_sim(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds its numbers against NumPy."""
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("scale_sim", FOLDER / "scale_sim.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cycles, seconds = module.ours(128)
    assert cycles > 128 * 120, "each vector comes from the banks"
    assert seconds > 0
    sys.modules.pop("measure", None)
