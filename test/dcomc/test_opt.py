"""`dcomc opt`: from text to text."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcomc.cli import main
from passes import PASSES

TOY = Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir"
MODULE = "builtin.module {\n  func.func private @f(!dcom.factored<1x8x8, rank 2, f32>) -> ()\n}\n"
WRONG = MODULE.replace("rank 2", "rank 9")


def test_without_passes_it_prints_what_it_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["opt", str(TOY)]) == 0
    first = capsys.readouterr().out
    assert "loc(" not in first
    file = tmp_path / "again.mlir"
    file.write_text(first, encoding="utf-8")
    assert main(["opt", str(file), "-o", "-"]) == 0
    assert capsys.readouterr().out == first


def stdin(text: str | bytes) -> io.TextIOWrapper:
    """Standard input that holds `text`, in a locale that is not UTF-8."""
    return io.TextIOWrapper(io.BytesIO(text.encode() if isinstance(text, str) else text), encoding="latin-1")


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin(MODULE))
    assert main(["opt", "-", "-p", "cse,dce,canonicalize"]) == 0
    assert "!dcom.factored<1x8x8, rank 2, f32>" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--print-debuginfo", "--mlir-print-debuginfo"])
def test_locations_on_demand(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main(["opt", str(TOY), flag]) == 0
    assert '"model.layers.*.self_attn.q_proj"("model.py":7:1)' in capsys.readouterr().out


def test_lists_and_describes_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", "--list-passes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PASSES)
    assert main(["opt", "--describe-pass", "dcom-insert-outlier-split"]) == 0
    assert "[thresholds.10]" in capsys.readouterr().out
    assert main(["opt", "--describe-pass", "dcom-insert-outliers"]) == 1
    assert "did you mean 'dcom-insert-outlier-split'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.mlir"], "error: cannot read absent.mlir: No such file"),
        ([str(TOY), "-p", "dcom-decompose-activations{layers=9}"], "error: layer 9 does not exist"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    mistake: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    output = tmp_path / "out.mlir"
    assert mistake("opt", *arguments, "-o", output).startswith(message)
    assert not output.exists()


def test_a_binary_file_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "prog.bin"
    file.write_bytes(b"\x7fELF\xff\xfe")
    assert main(["opt", str(file)]) == 1
    assert "is not MLIR text" in capsys.readouterr().err


def test_syntax_errors_give_the_line_also_in_a_split_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "two.mlir"
    file.write_text(f"{MODULE}// -----\n%broken\n// -----\n{WRONG}", encoding="utf-8")
    assert main(["opt", str(file), "--split-input-file"]) == 1
    assert capsys.readouterr().err.startswith(f"{file}:5:8: error: ")


EXPECTED = "// expected-error @+2 {{rank 9 is not between}}\n"
UNEXPECTED = "error: unexpected error: rank 9 is not between 1 and the 8 rows of a prompt\n"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (EXPECTED + WRONG, ""),
        (
            "// expected-error @below {{rank 9}}\n// expected-remark @above {{no}}\n" + WRONG.replace("\n", " "),
            'FILE:2: error: expected remark "no" was not produced\n',
        ),
        (WRONG.replace(") -> ()", ") -> () // expected-error {{rank 9}}"), ""),
        (WRONG + "// expected-error @-2 {{rank 9}}", ""),
        (WRONG.replace("\n}", "\n// expected-error @above {{rank 9}}\n}"), ""),
        (WRONG, "FILE:2:3: " + UNEXPECTED),
        (MODULE + "// expected-error {{rank}}", 'FILE:4: error: expected error "rank" was not produced\n'),
        (
            EXPECTED.replace("+2", "+1") + WRONG,
            'FILE:1: error: expected error "rank 9 is not between" was not produced\nFILE:3:3: ' + UNEXPECTED,
        ),
        (
            EXPECTED.replace("error", "remark") + WRONG,
            'FILE:1: error: expected remark "rank 9 is not between" was not produced\nFILE:3:3: ' + UNEXPECTED,
        ),
    ],
)
def test_diagnostics_are_held_against_comments(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problems: str
) -> None:
    file = tmp_path / "in.mlir"
    file.write_text(f"{MODULE}// -----\n{text}", encoding="utf-8")
    first_line = len(MODULE.splitlines()) + 1
    code = main(["opt", str(file), "--split-input-file", "--verify-diagnostics"])
    printed = capsys.readouterr()
    lines = re.sub(r"FILE:(\d+)", lambda match: f"{file}:{int(match[1]) + first_line}", problems)
    assert (code, printed.err) == (bool(problems), lines)
    assert printed.out == ("" if problems else f"{MODULE}// -----\n")


def test_an_error_of_a_traced_operation_has_no_line_of_the_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its place is that of the model's Python."""
    text = TOY.read_text(encoding="utf-8")
    file = tmp_path / "in.mlir"
    arguments = ["opt", str(file), "-p", "dcom-decompose-activations{layers=1 rank=99}", "--verify-diagnostics"]
    file.write_text("// expected-error @unknown {{rank 99}}\n" + text, encoding="utf-8")
    assert main(arguments) == 0
    file.write_text("// expected-error {{rank 99}}\n" + text, encoding="utf-8")
    assert main(arguments) == 1
    assert "unexpected error: rank 99" in capsys.readouterr().err


class Terminal(io.TextIOWrapper):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_file_it_reads_standard_input_unless_that_is_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin(MODULE))
    assert main(["opt"]) == 0
    assert capsys.readouterr().out == MODULE
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    assert main(["opt"]) == 1
    assert capsys.readouterr().err.startswith("error: no FILE given")


def test_errors_of_standard_input_name_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin("\n%broken\n"))
    assert main(["opt"]) == 1
    assert capsys.readouterr().err.startswith("<stdin>:3:1: error: ")


def test_standard_input_is_utf8_in_any_locale(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin(MODULE.replace("@", "@é")))
    assert main(["opt"]) == 0
    assert '@"\\C3\\A9f"' in capsys.readouterr().out  # in MLIR's spelling
    monkeypatch.setattr(sys, "stdin", stdin(b"\xff"))
    assert main(["opt"]) == 1
    assert capsys.readouterr().err == "error: <stdin> is not MLIR text; give a file of MLIR text\n"


@pytest.mark.parametrize("text", ["", " \n\n", "// only\n// comments"])
def test_an_empty_text_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.mlir").write_text(text)
    for command in (["opt"], ["compile", "--emit", "dcom"]):
        assert main([*command, str(tmp_path / "empty.mlir")]) == 1
        error = capsys.readouterr().err
        assert error.endswith("error: the text is empty; give IR as `dcomc trace` writes it\n")


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]\n"])
def test_json_is_called_that(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert main(["opt", str(tmp_path / "a.json")]) == 1
    error = capsys.readouterr().err
    assert error.endswith("a.json:1:1: error: the text is JSON, not MLIR; give IR as `dcomc trace` writes it\n")


def test_generic_syntax_reads_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["opt", str(TOY)]) == 0
    custom = capsys.readouterr().out
    assert main(["opt", str(TOY), "--mlir-print-op-generic"]) == 0
    generic = capsys.readouterr().out
    assert '"linalg.matmul"(' in generic and "linalg.matmul {" not in generic
    file = tmp_path / "generic.mlir"
    file.write_text(generic, encoding="utf-8")
    assert main(["opt", str(file)]) == 0
    assert capsys.readouterr().out == custom


def test_unregistered_dialects_on_demand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "other.mlir"
    file.write_text('builtin.module {\n  "other.op"() {a = #other.b} : () -> ()\n}\n', encoding="utf-8")
    assert main(["opt", str(file)]) == 1
    assert "2:4: error: Operation other.op is not registered" in capsys.readouterr().err
    assert main(["opt", str(file), "--allow-unregistered-dialect", "-p", "cse,canonicalize"]) == 0
    assert '"other.op"() {a = #other.b} : () -> ()' in capsys.readouterr().out


def test_dialects_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", "--show-dialects"]) == 0
    names = capsys.readouterr().out.split()
    assert names == sorted(names) and {"builtin", "cluster", "dcom", "isa", "linalg"} <= set(names)


@pytest.mark.parametrize("pipeline", ["builtin.module(cse,dce)", "builtin.module( cse,dce )", "builtin.module()"])
def test_pipelines_as_mlir_opt_writes_them(capsys: pytest.CaptureFixture[str], pipeline: str) -> None:
    assert main(["opt", str(TOY), f"--pass-pipeline={pipeline}"]) == 0
    assert "linalg.matmul" in capsys.readouterr().out
