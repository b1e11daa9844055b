"""Models on a task: a program with its controls beside the dense model, or a dense model alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dcomc.comparison import compare
from dcomc.evaluate import Evaluation, Window, dense_forward, make_windows, torch_weights
from dcomc.evaluation.checkpoint import Checkpoint
from dcomc.evaluation.tasks import Judged, Task
from dcomc.model import Model, Tokenizer, resolve_model
from dcomc.program import Program
from dcomc.progress import EvaluationProgress, speaker
from dcomc.weights import weights_digest


def evaluate_program(
    program: Program,
    model: Model | str | Path,
    task: Task,
    *,
    controls: bool = True,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> list[Judged]:
    """The dense model, the program and its controls on the same prompts; decompositions are float32 on the host.

    With a checkpoint, an interrupted evaluation goes on after its last whole window.

    Raises:
        DcomError: as `dcomc.comparison.compare` and the task do.
    """

    def windows(tokenizer: Callable[[], Tokenizer], batch: int, seq_len: int) -> Sequence[Window]:
        return make_windows(task.prompts(tokenizer(), seq_len), batch, seq_len)

    found = compare(
        program,
        model,
        windows,
        decompose_with="float32",
        controls=controls,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
    )
    scores = {"dense": found.dense, "program": found.program}
    scores |= {name: each for name, each in found.controls.items() if each is not found.program}
    return [Judged(name, task.metrics(each.prompts)) for name, each in scores.items()]


def evaluate_model(
    model: Model | str | Path,
    task: Task,
    *,
    batch: int = 1,
    seq_len: int = 512,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> Judged:
    """The dense model alone, `batch` prompts of at most `seq_len` tokens at a time.

    Raises:
        DcomError: a model without weights, or as the task does.
    """
    whole = resolve_model(model).with_weights()
    speaker(progress)(f"loading {whole.name}")
    prompts = task.prompts(whole.tokenizer(), seq_len)
    longest = max(len(prompt.tokens) for prompt in prompts)
    bar = EvaluationProgress(int(whole.config().get("num_hidden_layers", 1)), quiet=not progress)
    module = whole.torch_model("f32")
    evaluation = Evaluation(dense_forward(module, device, bar.layer), {})
    windows = make_windows(prompts, batch, longest)
    if checkpoint is not None:
        checkpoint.attach(evaluation, windows, {"weights": weights_digest(torch_weights(module))})
    bar.follow(evaluation, windows)
    return Judged("dense", task.metrics(evaluation.dense.prompts))
