"""Every dialect has a round-trip test of its operations and a case for each message of its verifiers."""

import ast
import re
from pathlib import Path

import pytest

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


def test_every_dcom_operation_is_in_the_round_trip() -> None:
    text = (FOLDER / "dcom" / "ops.mlir").read_text(encoding="utf-8")
    module = parse_module(text, "ops.mlir", make_context())
    assert {op.name for op in Dcom.operations} <= {op.name for op in module.walk()}
    printed = print_module(module)
    assert print_module(parse_module(printed, "printed")) == printed
