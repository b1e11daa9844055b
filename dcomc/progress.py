"""What is said on stderr while long work goes on."""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dcomc.diagnostics import counted
from dcomc.evaluate import Evaluation, Window

_SECONDS_BETWEEN_LINES = 10.0


def speaker(progress: bool) -> Callable[[str], None]:
    """Says a line on stderr, or nothing at all."""
    return (lambda line: print(line, file=sys.stderr, flush=True)) if progress else lambda line: None


@contextmanager
def steps(progress: bool) -> Generator[Callable[[str], None]]:
    """A line that says what goes on, on a terminal alone; call what it yields with each new step."""
    console = Console(file=sys.stderr)  # that of now: what a step redirects does not stop it
    if progress and console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda step: None


class EvaluationProgress:
    """How far an evaluation is: on a terminal a bar that moves with each layer, elsewhere a line now and then.

    Every model counts the same number of layers.
    """

    def __init__(self, layers: int, console: Console | None = None, *, quiet: bool = False) -> None:
        """Prepare.

        Args:
            layers: that each model runs for a window.
            console: where to draw (default: stderr).
            quiet: draw nothing.
        """
        self._layers = max(layers, 1)
        self._console = console or Console(stderr=True, soft_wrap=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("layers"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", start=False)

    def layer(self, _: int) -> None:
        """A layer is done."""
        self._bar.advance(self._task)

    def follow(self, evaluation: Evaluation, windows: Sequence[Window]) -> None:
        """Run the evaluation to its end."""
        names = ["dense", *evaluation.models]
        width = max(map(len, names))
        before = evaluation.done
        total = self._layers * len(names) * (len(windows) - before)
        started = time.monotonic()
        label, spoke = "", started
        self._bar.update(self._task, total=total, description=f"window {before + 1}/{len(windows)} {names[0]:{width}}")
        self._bar.start_task(self._task)
        with self._bar if self._console.is_terminal else nullcontext():
            for position, (number, name) in enumerate(evaluation.run(windows)):
                now = time.monotonic()
                if number == before + 1 and name == "dense":
                    self._estimate(now - started, len(windows) - number)
                    spoke = now
                if position and now - spoke >= _SECONDS_BETWEEN_LINES:
                    spoke = now
                    left = (now - started) / position * (len(names) * (len(windows) - before) - position)
                    self._line(f"{label.rstrip()} done, about {left:.0f} s left")
                label = f"window {number + 1:{len(str(len(windows)))}}/{len(windows)} {name:{width}}"
                self._bar.update(self._task, completed=position * self._layers, description=label)
            self._bar.update(self._task, completed=total)
        self._line(f"{counted(len(windows), 'window')} done in {time.monotonic() - started:.1f} s")

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)

    def _estimate(self, took: float, more: int) -> None:
        self._console.print(f"the first window took {took:.0f} s; {more} more: about {more * took:.0f} s")


class WorkProgress:
    """How far parts of work are: on a terminal a bar, elsewhere a line now and then; nothing where `quiet`.

    Where the parts are `equal`, it says how long the rest will take.
    """

    def __init__(self, total: int, doing: str, parts: str, *, equal: bool = True, quiet: bool = False) -> None:
        self._bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *([TimeRemainingColumn()] if equal else []),
            console=(console := Console(stderr=True)),
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(parts, total=total)
        self._lines = not quiet and not console.is_terminal
        self._total, self._parts, self._equal = total, parts, equal
        self._done = 0
        self._started = self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, parts: int = 1) -> None:
        """One more part is done, or so many."""
        self._done += parts
        self._bar.advance(self._task, parts)
        now = time.monotonic()
        if self._lines and self._done < self._total and now - self._spoke >= _SECONDS_BETWEEN_LINES:
            self._spoke = now
            left = (now - self._started) / self._done * (self._total - self._done)
            rest = f", about {left:.0f} s left" if self._equal else ""
            print(f"{self._done} of {self._total} {self._parts}{rest}", file=sys.stderr, flush=True)
