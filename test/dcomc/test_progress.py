"""What a terminal shows while models run."""

import io
import re
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from dcomc import progress as progress_module
from dcomc.evaluate import Evaluation, split_windows
from dcomc.progress import EvaluationProgress, WorkProgress


def test_the_bar_counts_the_layers_of_every_model_and_does_not_jump() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    progress = EvaluationProgress(3, console)

    def model(_: object) -> np.ndarray:
        for layer in range(3):
            progress.layer(layer)
            progress._bar.refresh()
        return np.zeros((1, 4, 8), np.float32)

    windows = split_windows(range(8), 1, 4)
    progress.follow(Evaluation(model, {"program": model, "skip_layers": model}), windows)
    frames = [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", screen.getvalue()) if " layers " in line]
    assert frames[0].startswith("window 1/2 dense       ") and " 0/18 layers" in frames[0]
    assert frames[-1].startswith("window 2/2 skip_layers ") and " 18/18 layers" in frames[-1]
    assert len({frame.index("/18 layers") for frame in frames}) == 1
    counts = [int(found) for frame in frames for found in re.findall(r"(\d+)/18", frame)]
    assert counts == sorted(counts) and set(counts) >= {1, 2, 3, 17}


def test_without_a_terminal_a_line_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty windows of two models, three seconds each."""
    seconds = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: seconds[0])
    said: list[tuple[float, str]] = []

    class Listener(io.StringIO):
        def write(self, text: str) -> int:
            said.extend((seconds[0], line) for line in text.splitlines() if line)
            return super().write(text)

    def model(_: object) -> np.ndarray:
        seconds[0] += 3
        return np.zeros((1, 4, 8), np.float32)

    progress = EvaluationProgress(1, Console(file=Listener(), soft_wrap=True))
    progress.follow(Evaluation(model, {"program": model}), split_windows([0] * 80, 1, 4))
    (first, estimate), *others, (end, last) = said
    assert (first, estimate) == (6, "the first window took 6 s; 19 more: about 114 s")
    assert others[0] == (18, "window  3/20 program done, about 102 s left")
    times = [first, *(time for time, _ in others)]
    assert all(10 <= after - before <= 13 for before, after in pairwise(times))
    assert (end, last) == (120, "20 windows done in 120.0 s")


def test_parts_that_are_done_together(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Four times 50 parts, 8 seconds each."""
    seconds = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: seconds[0])
    with WorkProgress(200, "running", "mutants") as progress:
        for _ in range(4):
            seconds[0] += 8
            progress.advance(50)
    assert capsys.readouterr().err == "100 of 200 mutants, about 16 s left\n"


def test_parts_that_are_not_equal_say_nothing_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: seconds[0])
    with WorkProgress(2, "timing", "kernels", equal=False) as progress:
        seconds[0] += 11
        progress.advance()
    assert capsys.readouterr().err == "1 of 2 kernels\n"
