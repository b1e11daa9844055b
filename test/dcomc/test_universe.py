"""xDSL's own tools find our dialects and passes through the entry point."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from xdsl.universe import XDSL_UNIVERSE

from dcomc.universe import DCOMC_UNIVERSE
from passes import PASSES, UPSTREAM

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "test" / "passes" / "dcom-insert-outlier-split.mlir"


def test_what_is_ours_and_nothing_of_xdsl() -> None:
    assert {dialect().name for dialect in DCOMC_UNIVERSE.all_dialects.values()} == {"cluster", "dcom", "isa"}
    assert {load().name for load in DCOMC_UNIVERSE.all_passes.values()} == set(PASSES) - set(UPSTREAM)
    assert not set(DCOMC_UNIVERSE.all_dialects) & set(XDSL_UNIVERSE.all_dialects)
    assert not set(DCOMC_UNIVERSE.all_passes) & set(XDSL_UNIVERSE.all_passes)


def test_xdsl_opt_runs_our_passes(tmp_path: Path) -> None:
    """With an installed package's metadata made from the project's own, so that the checkout need not be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / "dcomc_checkout-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dcomc-checkout\nVersion: 0\n", encoding="utf-8")
    lines = [f"{name} = {place}" for name, place in project["entry-points"]["xdsl.universe"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[xdsl.universe]", *lines, ""]), encoding="utf-8")
    script = "\n".join(
        [
            "import importlib.metadata, sys",
            "points = importlib.metadata.entry_points",
            # an installed checkout gives the same entry point once more
            "importlib.metadata.entry_points = lambda **k: {p.name: p for p in points(**k)}.values()",
            "from xdsl.xdsl_opt_main import xDSLOptMain",
            "xDSLOptMain(args=sys.argv[1:]).run()",
        ]
    )
    pipeline = "dcom-decompose-activations{layers=1 sites=qkv rank=2},dcom-preserve-decomposed,cse"
    process = subprocess.run(
        [sys.executable, "-c", script, str(TOY), "-p", pipeline],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "dcom.matmul" in process.stdout
