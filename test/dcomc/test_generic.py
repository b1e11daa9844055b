"""Generic IR of a decomposed model: iree-opt reads it by the IRDL definition of dcom, and dcomc reads it back."""

import subprocess
from pathlib import Path

import pytest
from iree_tools import tool
from xdsl.dialects.builtin import ModuleOp

from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import run_passes
from passes import make_passes

DEFINITION = Path(__file__).resolve().parents[2] / "dialects" / "dcom.irdl"
PIPELINE = (
    "cse,dcom-insert-outlier-split{layers=1 outliers=3 exact_rows=5},dcom-decompose-activations{layers=1,2 rank=2 "
    "reuse=down},dcom-preserve-decomposed,canonicalize,cse"
)


def content(module: ModuleOp) -> list[tuple[str, list[str], set[str]]]:
    """Each operation's name, the types of its results, and the names of its attributes."""
    return [
        (op.name, [str(result.type) for result in op.results], {*op.attributes, *op.properties}) for op in module.walk()
    ]


@pytest.mark.parametrize("options", [(), ("--mlir-print-op-generic",)], ids=["custom", "generic"])
def test_a_decomposed_model_goes_through_iree_opt_and_back(tiny_ir: Path, options: tuple[str, ...]) -> None:
    context = make_context()
    module = parse_module(tiny_ir.read_text(encoding="utf-8"), "tiny", context)
    run_passes(context, module, make_passes(PIPELINE))
    text = print_module(module, generic=True)
    assert content(parse_module(text, "generic")) == content(module)
    read = subprocess.run(
        [tool("iree-opt"), f"--irdl-file={DEFINITION}", "--mlir-print-debuginfo", *options, "-"],
        input=text,
        capture_output=True,
        text=True,
    )
    assert read.returncode == 0, read.stderr
    assert "\n#loc" in read.stdout[read.stdout.index("module") :], "locations are defined behind their uses"
    again = parse_module(read.stdout, "iree-opt")
    # iree-opt adds what goes without saying, such as the operand segments of an operation.
    for before, after in zip(content(module), content(again), strict=True):
        assert before[:2] == after[:2]
        if before[0].startswith("dcom."):
            assert before[2] == after[2]
    for before, after in zip(module.walk(), again.walk(), strict=True):
        assert str(before.location) == str(after.location), before.name
