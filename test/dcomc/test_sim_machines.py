"""Machines of every size: what `dcomc compile` makes for them gives the same on both engines of `dcomc sim`."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dcomc.cli import main
from runtime.machine import load_machine

FORMS: dict[str, dict[str, int] | None] = {
    "dcom-16x16": None,
    "dcom-hbm3": None,
    "edge-4x4": None,
    "4x4 of 4x4": {"rows": 4, "cols": 4, "mac_rows": 4, "mac_cols": 4},
    "1x1": {"rows": 1, "cols": 1},
    "32x32": {"rows": 32, "cols": 32},
}


@pytest.fixture(params=FORMS)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shipped machine, or the file of the default one with other sides."""
    sides = FORMS[request.param]
    if sides is None:
        return request.param
    text = (resources.files("dcomc") / "configs" / "machines" / "dcom-16x16.toml").read_text(encoding="utf-8")
    for key, value in sides.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    path = tmp_path / "machine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_compile_and_simulate(name: str, tiny_ir: Path, tmp_path: Path) -> None:
    program = tmp_path / "prog.bin"
    options = ["--decompose-layers", "1", "--sites", "qkv,down", "--rank", "3", "--machine", name]
    assert main(["compile", str(tiny_ir), *options, "-o", str(program)]) == 0
    found: list[dict[str, Any]] = []
    for engine in ("reference", "fast"):
        stats = tmp_path / f"{engine}.json"
        assert main(["sim", str(program), "--engine", engine, "--stats", str(stats)]) == 0
        found.append(json.loads(stats.read_text()))
        assert found[-1].pop("engine") == engine
    assert found[0] == found[1]
    assert found[0]["machine"]["hash"] == load_machine(name).hash
