"""What is watched while passes run: verification, times, printed IR, dumps that go on, and crashes that reproduce."""

import gc
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, f16, i64
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import PassFailedException, VerifyException

from dcomc.cli import main
from dcomc.container import read_program
from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module
from dcomc.pipeline import Decomposition, compile_pipeline, pipeline_text, run_passes
from dcomc.verification import Verifier
from dialects.dcom import DecomposeOp
from passes import PASSES, make_passes

TOY = Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir"
DECOMPOSE = "dcom-decompose-activations{layers=1 sites=qkv rank=2}"
SPLIT = """
func.func @f(%x: tensor<8x8xf32>) -> !dcom.factored<1x8x8, rank 2, f32> {
  %f = dcom.decompose %x {
    layer = 1 : i64, site = "o", iterations = 4 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64
  } : tensor<8x8xf32> -> !dcom.factored<1x8x8, rank 2, f32>
  func.return %f : !dcom.factored<1x8x8, rank 2, f32>
}
"""


def _decompositions(module: ModuleOp) -> list[DecomposeOp]:
    return [op for op in module.walk() if isinstance(op, DecomposeOp)]


@dataclass(frozen=True)
class Crash(ModulePass):
    """A pass that fails, as a mistake of its author would, after it has spoilt the module."""

    name = "crash"
    kind: str = "key"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        found = _decompositions(op)
        for decomposition in found:
            decomposition.properties["seed"] = IntegerAttr(77, i64)
        if self.kind == "key":
            raise KeyError("of a table\nthat has none")
        if self.kind == "failed":
            raise PassFailedException("no such luck")
        for decomposition in found:
            decomposition.properties["iterations"] = IntegerAttr(99, i64)


@dataclass(frozen=True)
class Mend(ModulePass):
    """Make good what `Crash` spoils."""

    name = "mend"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for decomposition in _decompositions(op):
            decomposition.properties["iterations"] = IntegerAttr(4, i64)


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES, "crash", lambda: Crash)
    monkeypatch.setitem(PASSES, "mend", lambda: Mend)


@pytest.mark.usefixtures("crashes")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("key", "error: pass crash crashed: KeyError: 'of a table\\nthat has none'; "),
        ("invalid", "error: pass crash left the module invalid: iterations 99 is not between the rank 2 and "),
    ],
)
def test_a_crash_leaves_a_file_that_reproduces_it(
    capsys: pytest.CaptureFixture[str], mistake: Callable[..., str], tmp_path: Path, kind: str, message: str
) -> None:
    file = tmp_path / "with space.mlir"
    pipeline = f'{DECOMPOSE},cse,crash{{kind="{kind}"}},dce'
    error = mistake("opt", TOY, "-p", pipeline, "--crash-reproducer", file)
    assert message in error and str(file) in error
    written = file.read_text(encoding="utf-8")
    assert "seed = 77" not in written and "iterations = 99" not in written  # it is the IR before the pass
    assert "dcom.decompose" in written and "loc(" in written
    assert "// Traceback (most recent call last):" in written
    (command,) = re.findall(r"^// (dcomc opt .*)$", written, re.MULTILINE)
    assert error.rstrip().endswith(command)
    assert main([*shlex.split(command)[1:], "--crash-reproducer", str(tmp_path / "again.mlir")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("crashes")
def test_a_crash_without_a_place_lies_beside_the_dumps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["opt", str(TOY), "-p", "crash", "--dump-ir-dir", str(tmp_path / "d")]) == 1
    assert str(tmp_path / "d" / "crash-crash.mlir") in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"00-input.mlir", "crash-crash.mlir"}


@pytest.mark.usefixtures("crashes")
def test_a_pass_that_says_why_it_fails_needs_no_reproducer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "crash.mlir"
    assert main(["opt", str(TOY), "-p", 'crash{kind="failed"}', "--crash-reproducer", str(file)]) == 1
    assert capsys.readouterr().err == "error: pass crash: no such luck\n"
    assert not file.exists()


@pytest.mark.usefixtures("crashes")
def test_verification_after_each_pass_or_after_the_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["opt", str(TOY), "--crash-reproducer", str(tmp_path / "crash.mlir"), "-p"]
    spoilt = f'{DECOMPOSE},crash{{kind="invalid"}}'
    assert main([*command, f"{spoilt},mend", "--verify-each"]) == 1
    assert "pass crash left the module invalid" in capsys.readouterr().err
    assert main([*command, f"{spoilt},mend", "--no-verify-each"]) == 0
    assert "iterations = 4" in capsys.readouterr().out
    assert main([*command, f"{spoilt},dce", "--no-verify-each"]) == 1
    assert "pass dce left the module invalid" in capsys.readouterr().err


def _retype(op: DecomposeOp) -> None:
    """Another element type for the operand alone."""
    block = op.parent_block()
    assert block is not None
    replaced = block.insert_arg(type(op.input.type)(f16, op.input.type.get_shape()), 0)
    op.operands[0] = replaced


@pytest.mark.parametrize(
    "change",
    [
        lambda op: op.properties.update(iterations=IntegerAttr(99, i64)),
        _retype,
        lambda op: op.parent_block().last_op.detach(),
    ],
    ids=["property", "operand", "operation"],
)
def test_a_change_is_verified(change: Callable[[DecomposeOp], None]) -> None:
    module = parse_module(SPLIT, "split", make_context())
    verifier = Verifier()
    verifier.verify_changes(module)
    verifier.verify_changes(module)
    change(_decompositions(module)[0])
    with pytest.raises(VerifyException):
        verifier.verify_changes(module)


def test_what_has_not_changed_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module = parse_module(SPLIT + SPLIT.replace("@f", "@g"), "split", make_context())
    verified: list[Operation] = []
    verify = DecomposeOp.verify_
    monkeypatch.setattr(DecomposeOp, "verify_", lambda op: (verified.append(op), verify(op)))
    verifier = Verifier()
    verifier.verify_changes(module)
    first, second = _decompositions(module)
    assert verified == [first, second]
    second.properties["seed"] = IntegerAttr(3, i64)
    verifier.verify_changes(module)
    assert verified == [first, second, second]


def test_times_are_a_table_on_stderr(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--decompose-layers", "1", "--emit", "dcom"]
    assert main(["compile", str(tiny_ir), *options, "--time-passes"]) == 0
    timed = capsys.readouterr()
    assert main(["compile", str(tiny_ir), *options]) == 0
    plain = capsys.readouterr()
    assert timed.out == plain.out and plain.err == ""
    rows = [line.split() for line in timed.err.splitlines() if line.strip() and "─" not in line]
    passes = [pass_.name for pass_ in compile_pipeline(Decomposition((1,), outliers=3), "dcom-16x16", "dcom")]
    assert [row[0] for row in rows] == ["step", "parse", *passes, "write", "total"]
    total = sum(float(row[1]) for row in rows[1:-1])
    assert float(rows[-1][1]) == pytest.approx(total, abs=0.001 * len(rows))
    assert all(int(row[-1].replace(",", "")) > 300 for row in rows if row[0] in passes)
    assert main(["opt", str(TOY), "-p", "cse,dce", "--mlir-timing"]) == 0
    assert re.search(r"^ ?dce +\d\.\d{3} ", capsys.readouterr().err, re.MULTILINE)


def test_the_ir_after_all_passes_is_printed_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(TOY), "-p", f"{DECOMPOSE},dcom-preserve-decomposed", "--mlir-print-ir-after-all"]) == 0
    streams = capsys.readouterr()
    empty, *parts = streams.err.split("// -----// IR Dump After ")
    assert empty == ""
    assert [part.split()[0] for part in parts] == ["dcom-decompose-activations", "dcom-preserve-decomposed"]
    assert "dcom.matmul" not in parts[0]
    assert parts[1].partition("//----- //\n")[2] == streams.out


@pytest.mark.parametrize("emit", ["dcom", "cluster", "isa"])
def test_the_printed_pipeline_is_what_compile_runs(
    tiny_ir: Path, capsys: pytest.CaptureFixture[str], emit: str
) -> None:
    options = ["--decompose-layers", "1,2", "--sites", "o,qkv", "--rank", "4", "--iterations", "9", "--emit", emit]
    assert main(["compile", "--print-pipeline", *options]) == 0
    pipeline = capsys.readouterr().out.removesuffix("\n")
    assert main(["opt", str(tiny_ir), "-p", pipeline, "--print-debuginfo"]) == 0
    by_opt = capsys.readouterr().out
    assert main(["compile", str(tiny_ir), *options]) == 0
    assert capsys.readouterr().out == by_opt


def test_a_pipeline_as_text_is_the_same_pipeline() -> None:
    options = Decomposition(
        layers=(3, 1), sites=("o",), rank=4, iterations=7, reorthogonalisation=1, seed=5, outliers="a b/t.toml"
    )
    for decomposition in (options, Decomposition((2,), outliers=2.5), Decomposition((2,)), Decomposition(())):
        for level in ("dcom", "cluster", "isa"):
            passes = compile_pipeline(decomposition, "my machine.toml", level)
            assert make_passes(pipeline_text(passes)) == passes


def test_no_layer_and_no_lowering_is_an_empty_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--print-pipeline", "--emit", "dcom"]) == 0
    assert capsys.readouterr().out == "builtin.module()\n"


CONFIG = """
[layers.1.sites.down]
decompose = false
[layers.2]
outliers = 0
[layers.2.sites.o]
reuse = true
[layers.3]
decompose = false
"""


@pytest.mark.parametrize(("explicit", "config"), [(False, False), (True, False), (False, True)])
def test_every_dump_goes_on_to_the_same_program(
    tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], explicit: bool, config: bool
) -> None:
    options = ["--decompose-layers", "1,2", "--sites", "qkv,down"]
    if config:
        (tmp_path / "sites.toml").write_text(CONFIG)
        options = ["--decompose-layers", "1-3", "--sites", "qkv,o,down", "--config", str(tmp_path / "sites.toml")]
    whole, dumps = tmp_path / "whole.bin", tmp_path / "dumps"
    assert main(["compile", str(tiny_ir), *options, "-o", str(whole), "--dump-ir-dir", str(dumps)]) == 0
    files = sorted(dumps.iterdir())
    assert len(files) > 8
    expected = read_program(str(whole))
    for file in files:
        capsys.readouterr()
        again = tmp_path / "again.bin"
        stage = ["--from-stage", file.stem] if explicit else []
        more = ["--dump-ir-dir", str(tmp_path / file.stem)]
        assert main(["compile", str(file), *options, *stage, *more, "-o", str(again)]) == 0
        program = read_program(str(again))
        assert program.host == expected.host
        assert [kernel.words for kernel in program.kernels] == [kernel.words for kernel in expected.kernels]
        assert program.launches == expected.launches
        assert ("going on after it" in capsys.readouterr().err) == (not explicit and file.stem[:2] not in ("00", "01"))
        first = min((tmp_path / file.stem).iterdir()).name
        if explicit:
            assert first == f"{file.stem[:2]}-input.mlir"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("cse", "error: the pipeline runs cse 2 times; write one of 01-cse, 0"),
        ("cluster-mapping", "error: the pipeline has no stage 'cluster-mapping'; did you mean '0"),
        ("99-cse", "error: the pipeline has no stage '99-cse'; "),
    ],
)
def test_stages_that_are_none(tiny_ir: Path, capsys: pytest.CaptureFixture[str], stage: str, message: str) -> None:
    command = ["compile", str(tiny_ir), "--decompose-layers", "1", "--emit", "isa", "--from-stage", stage]
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was_after_a_pipeline(enabled: bool) -> None:
    context = make_context()
    module = parse_module(SPLIT, "split", context)
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        run_passes(context, module, make_passes("cse"))
        assert gc.isenabled() == enabled
        with pytest.raises(KeyError):
            run_passes(context, module, [Crash()])
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("@h(%x) : (f32) -> f32", "could not be found in symbol table"),
        ("@g(%x) : (f32) -> f64", "result type mismatch"),
        ("@g(%x, %x) : (f32, f32) -> f32", "incorrect number of operands"),
    ],
)
def test_calls_fit_their_functions(call: str, message: str) -> None:
    result = call.rsplit(" ", 1)[1]
    text = f"""func.func private @g(f32) -> f32
func.func @f(%x: f32) -> {result} {{
  %y = func.call {call}
  func.return %y : {result}
}}"""
    with pytest.raises(DcomError, match=message):
        parse_module(text, "calls", make_context())
