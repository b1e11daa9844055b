"""The command line itself: help, version, and one line for every mistake."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

import dcomc
from dcomc.cli import COMMANDS, Command, CommandParser, guard, main
from dcomc.examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def dcomc_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dcomc", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_names_every_command() -> None:
    results = [dcomc_process(), dcomc_process("--help"), dcomc_process("-h")]
    for result in results:
        assert result.returncode == 0
        assert result.stderr == ""
        for name, text in COMMANDS.items():
            assert f"{name:<12}{text}\n" in result.stdout


def test_version() -> None:
    result = dcomc_process("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"dcomc {dcomc.__version__}\n", "")


def test_unknown_command_names_the_close_one(mistake: Callable[..., str]) -> None:
    error = mistake("complie", "model.mlir")
    assert error.startswith("error: unknown command 'complie'; did you mean 'compile'? known: asm, calibrate, ")


def test_unknown_command_without_a_close_one(mistake: Callable[..., str]) -> None:
    assert "did you mean" not in mistake("zzz")


@pytest.mark.parametrize("option", ["--verison", "-x", "--vers"])
def test_unknown_option(option: str, mistake: Callable[..., str]) -> None:
    assert "see dcomc --help" in mistake(option)


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_option_of_a_command(name: str, mistake: Callable[..., str]) -> None:
    assert f"see dcomc {name} --help" in mistake(name, "--no-such-option")


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["sim", "prog.bin", "--timing"], "--timing-only"),
        (["compile", "m.mlir", "--weigth-rank=3"], "--weight-rank"),
        (["compile", "m.mlir", "--emit", "llvm"], None),
        (["compile", "m.mlir", "--emit", "cluser"], "cluster"),
        (["eval", "prog.bin", "--task", "arc"], "arc_easy"),
    ],
)
def test_the_nearest_option_or_choice(
    arguments: list[str], suggestion: str | None, mistake: Callable[..., str]
) -> None:
    error = mistake(*arguments)
    assert error.endswith(f"see dcomc {arguments[0]} --help\n")
    assert ("did you mean" in error) == (suggestion is not None) and (not suggestion or f"'{suggestion}'?" in error)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: dcomc {name} ")
    assert f"\nexamples:\n  dcomc {name}" in shown and shown.splitlines()[-1].startswith("exit code: 0, or 1 ")


def parser_of(name: str) -> CommandParser:
    return CommandParser(name, cast(Command, importlib.import_module(f"dcomc.commands.{name}")))


def test_every_example_is_a_command_line() -> None:
    assert list(EXAMPLES) == list(COMMANDS)
    for name, examples in EXAMPLES.items():
        for example in examples:
            program, command, *arguments = shlex.split(example)
            assert (program, command) == ("dcomc", name) and len(example) <= 78
            parser_of(name).parse_args(arguments)


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_every_option_in_a_page_exists(page: str) -> None:
    """Of each command that stands in code: `dcomc sim --stats`, or a line of a block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    known: dict[str, str] = {}
    for name, arguments in re.findall(r"\bdcomc (\w+)((?: [^`\n|]*)?)", text.replace("\\\n", " ")):
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", arguments)
        if name in COMMANDS and options:
            known[name] = known.get(name) or parser_of(name).format_help()
            assert [option for option in options if not re.search(rf"{option}\b(?!-)", known[name])] == [], name


def test_a_process_exits_with_1_and_no_traceback() -> None:
    result = dcomc_process("no-such-command")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_reader_that_has_gone_ends_quietly(arguments: list[str]) -> None:
    """The pipe of stdout has no reader, as after `dcomc … | head` has read enough."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dcomc", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["opt", "--list-passes"], ["compile", "--print-pipeline"]])
def test_output_that_its_caller_has_closed(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "dcomc", *arguments]
    result = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_full_disk_under_standard_output() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "dcomc", "opt", "--list-passes"]
        result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_a_name_that_is_no_text_in_any_locale(tmp_path: Path, locale: str) -> None:
    """A file's name is bytes; what is printed, and what stands in IR, shows those that are no UTF-8."""
    name = os.fsencode(tmp_path) + b"/t\xff.mlir"
    Path(os.fsdecode(name)).write_text("func.func @f() {\n  func.return\n}\n")
    variables = {**os.environ, "LC_ALL": locale, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dcomc", "opt", "--print-debuginfo", name]
    result = subprocess.run(command, env=variables, capture_output=True)
    assert result.returncode == 0 and result.stderr == b""
    assert b'"t\\\\xff.mlir":1:1' in result.stdout
    result = subprocess.run([*command, "-p", "cluster-map", "-p", "no"], env=variables, capture_output=True)
    assert result.returncode == 1 and result.stderr.startswith(b"error: unknown pass 'no'")


def test_an_interrupt_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guard(interrupted) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("module", ["dcomc.cli", "argparse", "tempfile", "dcomc.commands.sim", "dcomc.container"])
def test_an_interrupt_while_modules_are_loaded_is_a_line(module: str) -> None:
    code = f"""
import signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.modules.pop("{module}", None)
from dcomc.__main__ import main
sys.exit(main())
"""
    command = [sys.executable, "-c", code, "sim", "none.bin"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["sim", ""], "an argument of dcomc sim"),
        (["trace", "tiny", "-o", ""], "-o"),
        (["compile", "a.mlir", "--machine=", "-o", "b.bin"], "--machine"),
        (["run", "a.bin", "--model", "", "--text", "a.txt"], "--model"),
    ],
)
def test_an_empty_argument_is_named(arguments: list[str], what: str, mistake: Callable[..., str]) -> None:
    """As an unset variable of a shell leaves it: it does not stand for the current folder."""
    assert mistake(*arguments).startswith(f"error: {what} is empty; see dcomc {arguments[0]} --help")


def test_a_text_that_begins_with_dashes(mistake: Callable[..., str]) -> None:
    """Neither an option without its value nor an empty argument; joined to its option it is a text as any."""
    run = ["run", "a.bin", "--model", "tiny"]
    error = mistake(*run, "--prompt", "--x=")
    assert error.startswith(
        "error: argument --prompt: expected one argument; write --prompt=… if it begins with a dash"
    )
    assert mistake(*run, "--prompt=--x=").startswith("error: cannot read a.bin")


@pytest.mark.parametrize("package", ["xdsl", "numpy"])
def test_a_package_that_is_not_installed(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from dcomc.cli import main; sys.exit(main(['sim', 'a.bin']))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    error = f"error: cannot import {package}, which dcomc needs; `pip install dcomc` brings it\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", error)


def test_without_torch_transformers_says_nothing_of_its_own() -> None:
    trace = ["trace", "tiny", "-o", "-"]
    code = f"import sys; sys.modules['torch'] = None; from dcomc.cli import main; sys.exit(main({trace}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    error = "error: cannot import torch, which a model needs; `pip install 'dcomc[model]'` brings it\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", error)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_a_file_takes_in_part(tmp_path: Path, unbuffered: str) -> None:
    """As on a disk that fills up: the file may have 1,024 bytes."""
    command = f"ulimit -f 1; exec {sys.executable} -m dcomc --help > {tmp_path / 'out.txt'}"
    variables = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", command], env=variables, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "error: cannot write standard output: File too large\n")
