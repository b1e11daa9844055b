"""The tutorial shows what its commands print."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from dcomc.diagnostics import DcomError

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script of the docs folder, which is no package."""
    spec = importlib.util.spec_from_file_location("update_tutorial", DOCS / "update_tutorial.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_what_its_commands_print(script: ModuleType) -> None:
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert script.refreshed(page).splitlines() == page.splitlines()


def test_the_page_reaches_every_level() -> None:
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for word in (
        "linalg.matmul",
        "dcom.outlier_split",
        "dcom.decompose",
        "cluster.matvec",
        "isa.mv.col",
        "0x0",
        "cycles",
    ):
        assert word in page.partition("## Level 0")[2], word


def test_a_block_is_filled_and_what_stood_there_goes(script: ModuleType) -> None:
    page = "a\n```console\n$ x=1\nold\n$ echo $x; echo '  2  '\nolder\n```\nb\n"
    filled = "a\n```console\n$ x=1\n$ echo $x; echo '  2  '\n1\n  2\n```\nb\n"
    assert script.refreshed(page) == filled == script.refreshed(filled)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("false", "`false` failed"),
        ("dcomc opt none.mlir", "`dcomc opt none.mlir` failed: error: cannot read none.mlir"),
        ("dcomc opt none.mlir | cat", "a command failed: error: cannot read none.mlir"),
    ],
)
def test_a_command_that_fails_is_told(script: ModuleType, command: str, message: str) -> None:
    with pytest.raises(DcomError) as caught:
        script.refreshed(f"```console\n$ true\n$ {command}\n```\n")
    assert caught.value.what.startswith(message)
