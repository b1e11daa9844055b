"""By its IRDL definition other tools read the `dcom` dialect in the generic syntax, and dcomc reads what they print."""

import subprocess
from pathlib import Path

import pytest
from iree_tools import tool
from mlir_tools import mlir_opt
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.irdl import IRDL
from xdsl.parser import Parser

from dcomc.ir import parse_module, print_module
from dialects.dcom import Dcom

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "test" / "dialects" / "dcom" / "ops.mlir"
NAMED, UNNAMED = (ROOT / "dialects" / name for name in ("dcom.irdl", "dcom-mlir19.irdl"))


def read_by(command: str, text: str, definition: Path = NAMED) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command, f"--irdl-file={definition}", "-"], input=text, capture_output=True, text=True)


def generic_ops() -> str:
    return print_module(parse_module(OPS.read_text(encoding="utf-8"), "ops.mlir"), generic=True)


@pytest.mark.parametrize("path", [NAMED, UNNAMED], ids=["named", "mlir19"])
def test_every_operation_is_defined(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for operation in Dcom.operations:
        assert f"irdl.operation @{operation.name.removeprefix('dcom.')} " in text
    for type_ in Dcom.attributes:
        assert f"irdl.type @{type_.name.removeprefix('dcom.')} " in text


def test_xdsl_reads_the_definition() -> None:
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(IRDL)
    Parser(context, NAMED.read_text(encoding="utf-8")).parse_module().verify()


def test_every_operation_goes_through_iree_opt_and_back() -> None:
    """iree-opt verifies it, renames the values and prints it otherwise; what it means stays."""
    text = generic_ops()
    read = read_by(tool("iree-opt"), text)
    assert read.returncode == 0, read.stderr
    module = parse_module(read.stdout, "iree-opt")
    again = read_by(tool("iree-opt"), print_module(module, generic=True))
    assert again.stdout == read.stdout
    assert [op.name for op in module.walk()] == [op.name for op in parse_module(text, "generic").walk()]
    assert "!dcom.factored<2x16x64, block 5, rank 4, f32>" in print_module(module)


def test_every_operation_goes_through_mlir_opt_and_back() -> None:
    """By the definition for its version: names of operands and results came into IRDL after 19."""
    command, version = mlir_opt()
    read = read_by(command, generic_ops(), UNNAMED if version == 19 else NAMED)
    assert read.returncode == 0, read.stderr
    names = [op.name for op in parse_module(read.stdout, "mlir-opt").walk()]
    assert names == [op.name for op in parse_module(generic_ops(), "generic").walk()]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layer = 10 : i64, ", "", 'attribute "layer" is expected but not provided'),
        ('"dcom.reconstruct"', '"dcom.rebuild"', "unregistered operation 'dcom.rebuild'"),
        ("!dcom.factored<[2, 16, 64], 10, f32,", "!dcom.factored<[2, 16, 64], 10, f64,", "does not satisfy"),
    ],
)
def test_iree_opt_refuses_what_the_definition_does_not_allow(old: str, new: str, message: str) -> None:
    text = generic_ops()
    assert old in text
    read = read_by(tool("iree-opt"), text.replace(old, new))
    assert read.returncode != 0
    assert message in read.stderr
