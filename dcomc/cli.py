"""The `dcomc` command. Each subcommand is a module of `dcomc.commands`, imported only when it is called."""

import argparse
import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NoReturn, Protocol, cast

from dcomc import __version__
from dcomc.diagnostics import DcomError, cannot_import, did_you_mean, nearest_word

COMMANDS = {
    "trace": "lift a model into Level 0 IR",
    "compile": "decompose layers of a traced model and make a program",
    "opt": "run passes over IR, as mlir-opt does",
    "statistics": "collect what the whitening of weights needs, over a text",
    "sim": "simulate a program's decompositions",
    "profile": "show what a program's cycles are spent on",
    "run": "run the whole model with decomposed layers, against the dense one",
    "estimate": "estimate latency and memory on GPUs, with and without a D-com",
    "eval": "judge a program or a model on texts and questions",
    "calibrate": "measure a model on text: outlier thresholds, and what each site costs",
    "search": "choose what to decompose within a budget, and confirm it on text",
    "reproduce": "compute the paper's figures and tables, with a verdict on each claim",
    "asm": "assemble text to a program",
    "disasm": "disassemble a program to text",
    "compare": "set two programs or results side by side",
    "report": "show a program as a page for a browser",
    "inspect": "show what a program holds",
    "doctor": "say what is installed; measure this machine as a host",
}


_EXIT = "exit code: 0, or 1 with a line on standard error, or 130 when interrupted\n"


class Command(Protocol):
    """What a module of `dcomc.commands` has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line and exit code 1."""

    def error(self, message: str) -> NoReturn:
        """Raise `DcomError`; where a choice or an option is unknown, with the nearest that there is.

        What begins with a dash is an option to argparse, unless it is joined to the one before.
        """
        what, _, choices = message.partition(" (choose from ")
        unknown = re.search(r"(?:choice: '|^unrecognized arguments: )([\w-]+)", what)
        words = re.findall(r"[\w-]+", choices) or re.findall(r"--[\w-]+", self.format_usage())
        nearest = unknown and nearest_word(unknown[1], words)
        suggestion = f"did you mean '{nearest}'? " if nearest else ""
        if lacking := re.match(r"argument (\S+/)*(--[\w-]+): expected one argument", message):
            suggestion = f"write {lacking[2]}=… if it begins with a dash, or "
        raise DcomError(message, hint=f"{suggestion}see {self.prog} --help")


class CommandParser(Parser):
    """The parser of a command, whose help ends with examples and what the exit code says."""

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(prog=f"dcomc {name}", description=command.__doc__, allow_abbrev=False)
        self._name = name
        command.add_arguments(self)

    def format_help(self) -> str:
        from dcomc.examples import EXAMPLES

        return "\n".join(
            [super().format_help(), "examples:", *(f"  {each}" for each in EXAMPLES[self._name]), "", _EXIT]
        )


def _overview() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dcomc",
        description="Compile a Llama onto low-rank factors of its activations, and simulate the accelerator.",
        epilog="\n".join(["commands:", *(f"  {name:<12}{text}" for name, text in COMMANDS.items())])
        + "\n\n`dcomc COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="dcomc [--version] COMMAND …",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dcomc {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


_MAY_BE_EMPTY = ("--decompose-layers", "--outliers", "--prompt", "--sites")
"""Options that are no file's name, and say themselves what an empty text means."""


def _check_empty(arguments: Sequence[str]) -> None:
    """Raise `DcomError` for an empty argument, such as an unset variable of a shell leaves: no file has that name."""
    for before, each in pairwise(arguments):
        option, given, value = each.partition("=")
        if not each:
            what = before if before.startswith("-") else f"an argument of dcomc {arguments[0]}"
        elif option.startswith("--") and given and not value and before not in _MAY_BE_EMPTY:
            what = option
        else:
            continue
        if what not in _MAY_BE_EMPTY:
            raise DcomError(f"{what} is empty", hint=f"see dcomc {arguments[0]} --help")


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command line; raises `DcomError` for a user's mistake."""
    if not arguments or arguments[0].startswith("-"):
        _overview().parse_args(arguments)
        _overview().print_help()
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise DcomError(f"unknown command '{name}'", hint=did_you_mean(name, COMMANDS))
    _check_empty(arguments)
    command = cast(Command, importlib.import_module(f"dcomc.commands.{name}"))
    return command.run(CommandParser(name, command).parse_args(arguments[1:]))


def guard(action: Callable[[], int]) -> int:
    """Run `action`: its own exit code, 1 with one line on stderr for a user's mistake, 130 when interrupted."""
    _prepare_streams()
    try:
        try:
            return action()
        finally:
            sys.stdout.flush()
    except DcomError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        _discard_output()
        return 0
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich turns it into this
            return 0
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EFBIG):
            _discard_output()
            print(DcomError(f"cannot write standard output: {error.strerror}"), file=sys.stderr)
        else:
            name = f"{error.filename}: " if error.filename else ""
            print(DcomError(f"{name}{error.strerror or error}"), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(cannot_import(error.name, "dcomc"), file=sys.stderr)
        return 1
    except MemoryError as error:
        print(DcomError(f"out of memory: {error}", hint="use a smaller model, shape or batch"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _prepare_streams() -> None:
    """Let output go somewhere where the caller has closed it, and be text that can be written in any locale.

    What a terminal's encoding lacks is escaped; in a file or a pipe all text is UTF-8.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        if isinstance(cast(object, sys.stdout.buffer), io.FileIO):
            # With PYTHONUNBUFFERED, what a disk that fills up takes no more is lost without an error.
            sys.stdout = os.fdopen(sys.stdout.fileno(), "w", 1, encoding=sys.stdout.encoding, closefd=False)
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")


def _discard_output() -> None:
    """Let what is still to be written to stdout vanish: its reader has gone (`dcomc disasm … | head`), or its disk is
    full. Python writes it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `dcomc` command."""
    return guard(lambda: dispatch(sys.argv[1:] if arguments is None else arguments))
