"""What a terminal shows while models run."""

import io
import re

import numpy as np
from rich.console import Console

from dcomc.evaluate import Evaluation, split_windows
from dcomc.progress import EvaluationProgress


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
