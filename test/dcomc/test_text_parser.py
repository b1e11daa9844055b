"""Text to IR: where each operation stands, and the line of each mistake."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_pass import BreakIterations
from xdsl.dialects.builtin import FileLineColLoc, UnknownLoc

from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.ir import describe_location, make_context, parse_module, print_module, verify_module
from dcomc.pipeline import run_passes

TOY = Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir"
DECOMPOSE = """builtin.module {
  func.func @f(%x: tensor<8x8xf32>) {

    %f =
      dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 4 : i64, reorthogonalisation = 2 : i64,
                         seed = 0 : i64} : tensor<8x8xf32> -> !dcom.factored<1x8x8, rank 2, f32>
    func.return
  }
}
"""

MISTAKES = {
    'module {} loc(#loc1)\n#loc1 = loc("a":1:x)\n': "2:19: error: Expected integer literal",
    'module {} loc(#loc1)\n#loc1 = loc("a":1:2)\n#loc1 = loc("a":1:3)\n': (
        "3:7: error: re-declaration of alias '#loc1'"
    ),
    "module {\n  func.func @f() {\n    dcom.decompos %x\n    func.return\n  }\n}\n": (
        "3:5: error: Operation dcom.decompos is not registered; did you mean 'dcom.decompose'?"
    ),
    'module {\n  "dcom.bar"() : () -> ()\n\n\n}\n': "2:4: error: Operation dcom.bar is not registered; ",
    "module {\n  dcon.decompose\n\n\n}\n": "2:3: error: Operation dcon.decompose is not registered; did you mean",
    "module {\n  func.func @f(%x: !dcom.factor<1x8x8>\n) {\n    func.return\n  }\n}\n": (
        "2:21: error: 'dcom.factor' is not registered; did you mean 'dcom.factored'? known: "
    ),
    "module {\n  func.func @f() {\n    func.return\n  }\n  func.func @g() {\n    func.return %x : f32\n  }\n}\n": (
        "6:5: error: values used but not defined: [%x]"
    ),
    "module {\n  func.func @f(%x: !dcom.factored<1x8x8, rank 9, f32>\n) {\n    func.return\n  }\n}\n": (
        "2:3: error: rank 9 is not between 1 and the 8 rows of a prompt"
    ),
    "\n!t = !dcom.factored<1x8x8, rank 9, f32>\nmodule {\n}\n": (
        "2:39: error: rank 9 is not between 1 and the 8 rows of a prompt"
    ),
    "module {\n  func.func @f(%x: f32) -> f64 {\n    func.return %x : f32\n  }\n}\n": (
        "3:5: error: Expected arguments to have the same types as the function output types"
    ),
    "module {\n\n  func.func @f() {\n    func.call @g() : () -> ()\n    func.return\n  }\n}\n": (
        "4:5: error: '@g' could not be found in symbol table"
    ),
    "module {\n  func.func @f(%x: f32) {\n    %c = arith.constant 1 : i32\n  }\n}\n": (
        "3:5: error: Operation arith.constant terminates block in single-block region but is not a terminator"
    ),
    DECOMPOSE.replace("iterations = 4", "iterations = 9"): "4:5: error: iterations 9 is not between the rank 2 and ",
    "module {\n  func.func @f(%x: f32) {\n    $\n  }\n}\n": "3:5: error: Unexpected character: $",
    (
        "module {\n  func.func @f(%x: f32) {\n    %y = arith.negf %z : f32\n    %z = arith.negf %x : f32\n"
        "    func.return\n  }\n}\n"
    ): "3:5: error: arith.negf uses a value that is not made before it",
    "": "1:1: error: ",
    "€ module {}\n": "1:1: error: Unexpected character: €",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_in_a_text_are_told_with_their_place(mistake: Callable[..., str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.mlir"
    file.write_text(text, encoding="utf-8")
    assert mistake("opt", file).startswith(f"{file}:{MISTAKES[text]}")


def test_a_text_in_quotation_marks_that_nothing_closes_is_one_error_at_once() -> None:
    """xDSL's own expression for it takes twice the time for each further character."""
    text = 'module attributes {dcom.model = "' + 3000 * "a" + "} {}"
    with pytest.raises(DcomError, match="End of file reached before closing string literal") as caught:
        parse_module(text, "a.mlir")
    assert caught.value.place == "a.mlir:1:33"


def test_a_byte_order_mark_is_no_part_of_a_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "marked.mlir"
    file.write_text("module {\n}\n", encoding="utf-8-sig")
    assert main(["opt", str(file)]) == 0
    assert capsys.readouterr().out == "builtin.module {\n}\n"


def test_an_invalid_operation_names_its_line_and_the_line_of_the_model() -> None:
    location = 'loc("model.layers.1.mlp"("modeling.py":7:1))'
    text = DECOMPOSE.replace("iterations = 4", "iterations = 9").replace("f32>\n    func", f"f32> {location}\n    func")
    with pytest.raises(DcomError) as caught:
        parse_module(text, "a/wrong.mlir")
    message = str(caught.value)
    assert message.startswith("a/wrong.mlir:4:5: error: iterations 9 is not between")
    assert message.endswith("it comes from model.layers.1.mlp (modeling.py:7)")


def test_an_operation_without_location_gets_its_line_but_not_the_folder() -> None:
    module = parse_module(DECOMPOSE, "some/folder/toy.mlir")
    places = {op.name: op.location for op in module.walk()}
    assert [describe_location(places[name]) for name in ("builtin.module", "func.func", "dcom.decompose")] == [
        "toy.mlir:1",
        "toy.mlir:2",
        "toy.mlir:4",
    ]
    decompose = places["dcom.decompose"]
    assert isinstance(decompose, FileLineColLoc) and decompose.column.data == 5
    assert "loc(" not in print_module(module, locations=False)
    assert "some" not in print_module(module)


def test_locations_of_the_text_stay_as_they_are() -> None:
    plain = print_module(parse_module(TOY.read_text(encoding="utf-8"), "toy.mlir"))
    assert print_module(parse_module(plain, "again.mlir")) == plain
    unknown = "builtin.module {\n} loc(unknown)\n"
    assert print_module(parse_module(unknown, "u.mlir")) == unknown
    aliased = '#here = loc("x.py":3:4)\nbuiltin.module {\n} loc(#here)\n'
    assert describe_location(parse_module(aliased, "a.mlir").location) == "x.py:3"


def test_bodies_that_the_text_does_not_show_have_a_location(tiny_ir: Path) -> None:
    module = parse_module(tiny_ir.read_text(encoding="utf-8"), "tiny.mlir")
    assert [op.name for op in module.walk() if isinstance(op.location, UnknownLoc)] == []
    (body,) = {
        describe_location(op.location)
        for op in module.walk()
        if op.name == "linalg.yield" and (parent := op.parent_op()) and parent.name == "linalg.matmul"
        if "lm_head" in describe_location(parent.location)
    }
    assert "lm_head" in body


def test_an_error_after_a_pass_names_the_line_that_the_operation_comes_from() -> None:
    context = make_context()
    module = parse_module(DECOMPOSE, "a/toy.mlir", context)
    with pytest.raises(DcomError) as caught:
        run_passes(context, module, [BreakIterations()])
    assert str(caught.value).startswith("toy.mlir:4: error: pass break-iterations left the module invalid: iterations")
    with pytest.raises(DcomError) as caught:
        verify_module(module, "the module")
    assert str(caught.value).startswith("toy.mlir:4: error: iterations 99")


def test_lines_count_on_in_a_split_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "two.mlir"
    wrong = DECOMPOSE.replace("iterations = 4", "iterations = 9")
    lines = len(DECOMPOSE.splitlines())
    file.write_text(f"{DECOMPOSE}// -----\n{DECOMPOSE}", encoding="utf-8")
    assert main(["opt", str(file), "--split-input-file", "--print-debuginfo"]) == 0
    first, second = capsys.readouterr().out.split("// -----\n")
    assert 'loc("two.mlir":4:5)' in first and f'loc("two.mlir":{lines + 1 + 4}:5)' in second
    file.write_text(f"{DECOMPOSE}// -----\n{wrong}", encoding="utf-8")
    assert main(["opt", str(file), "--split-input-file"]) == 1
    assert capsys.readouterr().err.startswith(f"{file}:{lines + 1 + 4}:5: error: iterations 9")


def test_deep_nesting_is_one_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "deep.mlir"
    depth = sys.getrecursionlimit()
    file.write_text("builtin.module {\n" * depth + "}\n" * depth, encoding="utf-8")
    assert main(["opt", str(file)]) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith(f"{file}:") and "nested too deeply" in streams.err


def test_locations_that_are_defined_behind_their_uses() -> None:
    text = (
        'module {\n  func.func private @f() loc(#loc2)\n} loc(#loc)\n#loc = loc("m.py":1:2)\n#loc2 = loc("f"(#loc))\n'
    )
    module = parse_module(text, "text")
    assert [describe_location(op.location) for op in module.walk()] == ["m.py:1", "f (m.py:1)"]
    assert "#loc" not in print_module(module)
