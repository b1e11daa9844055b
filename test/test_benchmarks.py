"""What benchmarks compute themselves is right; the other tools that they measure are not run."""

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_one_another(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks import what they share by its plain name."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    sys.modules.pop("measure", None)


def test_the_product_beside_scale_sim() -> None:
    """It holds its numbers against NumPy."""
    cycles, seconds = import_module("scale_sim").ours(128)
    sys.modules.pop("scale_sim")
    assert cycles > 128 * 120, "each vector comes from the banks"
    assert seconds > 0


def test_the_json_says_of_each_goal_what_its_table_does(capsys: pytest.CaptureFixture[str]) -> None:
    measure = import_module("measure")
    goals = [measure.Goal("ratio", 1.234, 1.5), measure.Goal("gain", 3.9, 4, at_least=True)]
    measure.finish("speed", {"seconds": 2}, goals)
    *lines, last = capsys.readouterr().out.splitlines()
    held = [[goal["what"], goal["bound"], "yes" if goal["met"] else "no"] for goal in json.loads(last)["goals"]]
    assert held == [["ratio", "at most 1.5", "yes"], ["gain", "at least 4", "no"]]
    assert all(any(set(words) <= set(re.split(" {2,}", line)) for line in lines) for words in held)
