"""What is watched while passes run: dumps, printed IR, times, and what a crash of a pass leaves behind."""

import gc
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import PassFailedException, VerifyException

from dcomc.diagnostics import DcomError, write_text
from dcomc.ir import place_of, print_module
from dcomc.tables import print_table
from dcomc.verification import invalid_operation, verifier_message


@dataclass
class Step:
    """What one step took, in wall-clock seconds, and the operations that the module had after it."""

    name: str
    seconds: float = 0.0
    verification: float = 0.0
    operations: int | None = None


@dataclass
class Times:
    """The time of each step of a run."""

    steps: list[Step] = field(default_factory=list[Step])

    @contextmanager
    def measure(self, name: str) -> Generator[Step]:
        """Take the time of the block as that of step `name`."""
        self.steps.append(Step(name))
        start = time.perf_counter()
        yield self.steps[-1]
        self.steps[-1].seconds = time.perf_counter() - start

    @contextmanager
    def measure_verification(self) -> Generator[None]:
        """Take the time of the block as that of verifying what the last step left."""
        start = time.perf_counter()
        yield
        self.steps[-1].verification = time.perf_counter() - start

    def print(self) -> None:
        """Print a table to stderr."""
        seconds = sum(step.seconds for step in self.steps)
        verification = sum(step.verification for step in self.steps)
        rows = [
            (
                step.name,
                f"{step.seconds:.3f}",
                f"{step.verification:.3f}" if step.verification else "",
                f"{(step.seconds + step.verification) / (seconds + verification):.1%}",
                "" if step.operations is None else f"{step.operations:,}",
            )
            for step in [*self.steps, Step("total", seconds, verification)]
        ]
        print_table(("step", "seconds", "verification", "share", "operations"), rows, stderr=True)


@dataclass(frozen=True)
class Instrumentation:
    """What to watch while a pipeline runs."""

    dump_dir: Path | None = None
    """A folder for the IR after each pass that changes it."""
    passes_before: int = 0
    """Passes of the pipeline that ran earlier, in another process: dumps count on from them."""
    verify_each: bool = True
    """Verify after each pass; otherwise only what the last pass leaves."""
    print_after_all: bool = False
    """Print the IR after each pass to stderr."""
    times: Times = field(default_factory=Times)
    print_times: bool = False
    """Print `times` to stderr in the end; only then operations are counted."""
    origin: Callable[[], ModuleOp] | None = None
    """Makes the input module anew; needed to reproduce a crash."""
    crash_reproducer: Path | None = None
    """Where to reproduce a crash; a new file beside the dumps, or among the temporary files, unless given."""


@contextmanager
def collection_paused() -> Generator[None]:
    """Leave Python's garbage collector alone for the block: an IR is all cycles, none of them garbage, and visiting
    100,000 operations again and again takes as long as most passes do.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Dumps:
    """The numbered files of one run, each written only where the IR has changed."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._text = ""

    def write(self, name: str, module: ModuleOp) -> None:
        """Write `NAME.mlir`, with locations; raises `DcomError` where the folder cannot be made or written."""
        if self._folder is None:
            return
        text = print_module(module)
        if text != self._text:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DcomError(
                    f"cannot make {self._folder}: {error.strerror}", hint="give a folder to write to"
                ) from error
            write_text(self._folder / f"{name}.mlir", text)
        self._text = text


class CrashGuard:
    """Turns what goes wrong inside pass number `index` into one error, with a file that reproduces it.

    A `DcomError` is the user's mistake and passes through; anything else is a mistake of the pass.
    """

    def __init__(
        self, context: Context, module: ModuleOp, passes: Sequence[ModulePass], index: int, watch: Instrumentation
    ) -> None:
        self._context = context
        self._module = module
        self._passes = passes
        self._index = index
        self._watch = watch

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, DcomError):
            return
        name = self._passes[self._index].name
        place = None
        if isinstance(error, PassFailedException):
            raise DcomError(f"pass {name}: {verifier_message(error)}") from error
        if isinstance(error, VerifyException):
            op, message = invalid_operation(self._module) or (None, verifier_message(error))
            what = f"pass {name} left the module invalid: {message}"
            place = None if op is None else place_of(op.location)
        else:
            lines = str(error).strip().splitlines()
            what = f"pass {name} crashed: {type(error).__name__}: {lines[0] if lines else 'no message'}"
        if self._watch.origin is None:
            if isinstance(error, VerifyException):
                raise DcomError(what, hint="this is a mistake of the pass", place=place) from error
            return
        file, command = self._reproduce(name, what, error)
        hint = f"this is a mistake of the pass; {file} reproduces it: {command}"
        raise DcomError(what, hint=hint, place=place) from error

    def _reproduce(self, name: str, what: str, error: Exception) -> tuple[Path, str]:
        """Write the IR before the pass, which the passes before it make again, below the command and the traceback."""
        assert self._watch.origin is not None
        module = self._watch.origin()
        for pass_ in self._passes[: self._index]:
            pass_.apply(self._context, module)
        file = self._watch.crash_reproducer or _new_file(self._watch.dump_dir, name)
        command = f"dcomc opt {shlex.quote(str(file))} -p {shlex.quote(str(self._passes[self._index]))}"
        notes = [
            what,
            "",
            command,
            "",
            "Traceback (most recent call last):",
            *"".join(traceback.format_tb(error.__traceback__)).splitlines(),
        ]
        header = "".join(f"// {line}".rstrip() + "\n" for line in notes)
        write_text(file, header + print_module(module))
        return file, command


def _new_file(folder: Path | None, name: str) -> Path:
    if folder is not None:
        return folder / f"crash-{name}.mlir"
    descriptor, path = tempfile.mkstemp(prefix=f"dcomc-crash-{name}-", suffix=".mlir")
    os.close(descriptor)
    return Path(path)


def print_after(pass_: ModulePass, module: ModuleOp) -> None:
    """Print the IR after a pass to stderr, under the heading that mlir-opt gives it."""
    print(
        f"// -----// IR Dump After {pass_.name} //----- //\n{print_module(module, locations=False)}",
        file=sys.stderr,
        end="",
    )
