"""Every dialect has a round-trip test of its operations and a case for each message of its verifiers."""

import ast
import re
from pathlib import Path

import pytest
from xdsl.ir import Attribute
from xdsl.parser import Parser

from dcomc.ir import make_context, parse_module, print_module
from dialects.dcom import Dcom

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parents[1] / "dialects"
DIALECTS = sorted(path.stem for path in PACKAGE.glob("*.py") if "_" not in path.stem)


def verifier_messages(dialect: str) -> list[str]:
    """The messages that a dialect's files raise as `VerifyException`, as regular expressions."""
    patterns: list[str] = []
    for path in [PACKAGE / f"{dialect}.py", *PACKAGE.glob(f"{dialect}_*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "VerifyException":
                continue
            (message,) = node.args
            parts = message.values if isinstance(message, ast.JoinedStr) else [message]
            patterns.append(
                "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts)
            )
    return patterns


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialect_has_its_tests(dialect: str) -> None:
    for name in ("ops.mlir", "invalid.mlir"):
        assert "RUN: %dcomc opt" in (FOLDER / dialect / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_verifier_message_has_a_case(dialect: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / dialect).glob("invalid*.mlir"))
    checks = re.findall(r"// expected-error.*?\{\{(.*)\}\}", text)
    missing = [pattern for pattern in verifier_messages(dialect) if not any(re.search(pattern, c) for c in checks)]
    assert not missing, f"invalid*.mlir have no case for {missing}"


OTHER_TYPES = [
    ["!dcom.factored<1x8x64, rank 2, f32>", "!dcom.factored<1x8x64, rank 3, f32>"],
    ["!dcom.factored<1x8x64, rank 2, f32>", "!dcom.factored<1x8x64, block 4, rank 2, f32>"],
    ["!dcom.factored<1x8x64, rank 2, f32>", "!dcom.factored<1x8x64, rank 2x2, f32>"],
    ["!dcom.outliers<1x8x64, capacity 2, f32>", "!dcom.outliers<1x8x64, capacity 3, f32>"],
    ["!dcom.outliers<1x8x64, capacity 2, f32>", "!dcom.outliers<1x8x64, capacity 2, f16>"],
    ["!dcom.tokens<1x8x64, capacity 2, f32>", "!dcom.tokens<1x8x60, capacity 2, f32>"],
    ["!dcom.tokens<1x8x64, capacity 2, f32>", "!dcom.outliers<1x8x64, capacity 2, f32>"],
    ["!dcom.weight<64x8, rank 2x2, f32>", "!dcom.weight<64x8, rank 2x3, f32>"],
    ["!cluster.matrix<8x64>", "!cluster.matrix<8x60>"],
    ["!cluster.vector<64, cols>", "!cluster.vector<64, rows>"],
    ["!cluster.vector<64, cols>", "!cluster.vector<64, cols, 1 of 2>"],
    ["!cluster.basis<3x64, cols>", "!cluster.basis<4x64, cols>"],
    ["!cluster.cells<3>", "!cluster.cells<4>"],
]


@pytest.mark.parametrize("texts", OTHER_TYPES, ids=" ".join)
def test_types_are_equal_by_all_their_parameters(texts: list[str]) -> None:
    def parse(text: str) -> Attribute:
        return Parser(make_context(), text).parse_type()

    one, other = map(parse, texts)
    assert one == parse(texts[0])
    assert one != other


def test_every_dcom_operation_is_in_the_round_trip() -> None:
    text = (FOLDER / "dcom" / "ops.mlir").read_text(encoding="utf-8")
    module = parse_module(text, "ops.mlir", make_context())
    assert {op.name for op in Dcom.operations} <= {op.name for op in module.walk()}
    printed = print_module(module)
    assert print_module(parse_module(printed, "printed")) == printed
