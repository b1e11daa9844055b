"""How far an evaluation is: in a terminal a bar that moves with each layer, elsewhere a line for each model."""

import time
from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dcomc.evaluate import Evaluation, Window


class EvaluationProgress:
    """Follows one evaluation; every model of it counts the same number of layers."""

    def __init__(self, layers: int, console: Console | None = None) -> None:
        """Prepare.

        Args:
            layers: that each model runs for a window.
            console: where to draw (default: stderr).
        """
        self._layers = max(layers, 1)
        self._console = console or Console(stderr=True, soft_wrap=True)
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
        total = self._layers * len(names) * len(windows)
        started = time.monotonic()
        label, since = "", started
        self._bar.update(self._task, total=total, description=f"window 1/{len(windows)} {names[0]:{width}}")
        self._bar.start_task(self._task)
        with self._bar if self._console.is_terminal else nullcontext():
            for position, (number, name) in enumerate(evaluation.run(windows)):
                self._finished(label, since)
                since = time.monotonic()
                if number == 1 and name == "dense":
                    self._estimate(since - started, len(windows) - 1)
                label = f"window {number + 1:{len(str(len(windows)))}}/{len(windows)} {name:{width}}"
                self._bar.update(self._task, completed=position * self._layers, description=label)
            self._bar.update(self._task, completed=total)
        self._finished(label, since)

    def _finished(self, label: str, since: float) -> None:
        """A model is done with a window."""
        if label and not self._console.is_terminal:
            self._console.print(f"{label} {time.monotonic() - since:6.1f} s", highlight=False)

    def _estimate(self, took: float, more: int) -> None:
        self._console.print(f"the first window took {took:.0f} s; {more} more: about {more * took:.0f} s")
