"""A compiled model beside the dense one on the same tokens: what `Program.run` is made of, and what it finds."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from xdsl.dialects.builtin import DenseResourceAttr, IntegerAttr, ModuleOp, TensorType
from xdsl.dialects.ml_program import GlobalOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from dcomc.configuration import check_configuration
from dcomc.diagnostics import DcomError, counted
from dcomc.encode import check_launches
from dcomc.evaluate import Array, Evaluation, Forward, Scores, Window, dense_forward, torch_weights
from dcomc.evaluation.checkpoint import Checkpoint
from dcomc.factors import check_factors
from dcomc.ir import parse_module
from dcomc.model import Model, Tokenizer, resolve_model
from dcomc.program import Program
from dcomc.progress import EvaluationProgress, speaker
from dcomc.simulate import work_of
from dcomc.weights import weights_digest
from dialects.dcom import SITES, DecomposeOp, OutlierSplitOp, ProjectOp, TokenSplitOp, WeightOp
from runtime.accelerator import Accelerator
from runtime.engines import PATIENCE_SECONDS, Plan, plan
from runtime.executor import LAYER, Executor
from runtime.executor_arrays import Arrays, make_arrays
from runtime.executor_dcom import host_decompose, zero_decompose
from runtime.executor_split import Decompose
from runtime.lanczos import Factored

if TYPE_CHECKING:
    import torch

PROGRAM = "program"
EXACT = {OutlierSplitOp: "the outlier channels", TokenSplitOp: "the exact tokens"}
CONTROLS = {
    "float32": "the same decompositions in float32 on the host",
    "skip_layers": "the decomposed layers left out",
    "rank_0": "{exact}, nothing decomposed",
}
SHORT = 256
"""Tokens of a prompt below which the program and its controls hardly differ: a low rank is nearly the full one."""

MakeWindows: TypeAlias = Callable[[Callable[[], Tokenizer], int, int], Sequence[Window]]
"""What to run, of what gives the tokenizer, and of a program's prompts B and tokens S."""


@dataclass(frozen=True)
class Described:
    """What the IR of a program says about itself."""

    batch: int
    seq_len: int
    dtype: str
    """The element type of its activations: f32, f16 or bf16."""
    layers: tuple[int, ...]
    """Layers with a decomposition."""
    sites: tuple[str, ...]
    """Sites that are decomposed in any of them, or projected."""
    projected: tuple[str, ...]
    """The sites that in some layer are projected on the basis of another site."""
    exact: tuple[str, ...]
    """What is kept exact beside the decompositions."""
    ranks: tuple[int, ...]
    iterations: tuple[int, ...]
    """Lanczos steps."""
    calls: int
    """Decoder layers that one run of the model calls."""
    weights: str = ""
    """What is said of its weights in factors."""

    def control(self, name: str) -> str:
        """What a control is, for people."""
        return CONTROLS[name].format(exact="only " + " and ".join(self.exact) if self.exact else "nothing kept exact")


@dataclass(frozen=True)
class Comparison:
    """What `Program.run` found."""

    model: str
    described: Described
    windows: int
    """Runs of each model."""
    dense: Scores
    """The scores of transformers' own model."""
    program: Scores
    controls: Mapping[str, Scores]
    """By the names of `CONTROLS`; none where no layer is decomposed."""
    engine: str | None
    """The engine that simulated the decompositions; None where the host computed them."""
    inputs: Mapping[str, Array]
    """What each decomposition worked on in the first window, [B*S, H], by launch, such as `layer10.qkv`."""

    @property
    def ratio(self) -> float:
        """The program's perplexity over the dense model's."""
        return self.program.perplexity / self.dense.perplexity

    def to_json(self) -> dict[str, Any]:
        """The measurements, as `dcomc run --json` writes them."""
        return {
            "model": self.model,
            "engine": self.engine,
            "windows": self.windows,
            "tokens": self.dense.tokens,
            "dense_perplexity": self.dense.perplexity,
            **self._measured(self.program),
            "controls": {name: self._measured(scores) for name, scores in self.controls.items()},
        }

    def _measured(self, scores: Scores) -> dict[str, Any]:
        return {
            "perplexity": scores.perplexity,
            "ratio": scores.perplexity / self.dense.perplexity,
            "top1_agreement": scores.top1_agreement,
            "max_logit_difference": scores.max_logit_difference,
        }


def describe(module: ModuleOp) -> Described:
    """Read the shape and the decompositions off the IR of a program.

    Raises:
        DcomError: the module does not say its batch and tokens.
    """
    shape = [module.attributes.get(f"dcom.{name}") for name in ("batch", "seq_len")]
    if not all(isinstance(attribute, IntegerAttr) for attribute in shape):
        raise DcomError("the program does not say its batch and tokens", hint="compile IR made by `dcomc trace`")
    batch, seq_len = (cast(IntegerAttr[Any], attribute).value.data for attribute in shape)
    operations = list(module.walk())
    decompositions = [op for op in operations if isinstance(op, DecomposeOp)]
    projected = {op.site.data for op in operations if isinstance(op, ProjectOp)}
    sites = {op.site.data for op in decompositions} | projected
    kinds = {type(op) for op in operations}
    activation = next((op.operands[0].type for op in operations if LAYER in op.attributes and op.operands), None)
    return Described(
        batch,
        seq_len,
        str(activation.element_type) if isa(activation, TensorType[Attribute]) else "f32",
        tuple(sorted({op.layer.value.data for op in decompositions})),
        tuple(site for site in SITES if site in sites),
        tuple(site for site in SITES if site in projected),
        tuple(text for kind, text in EXACT.items() if kind in kinds),
        tuple(sorted({op.factors.type.rank.data for op in decompositions})),
        tuple(sorted({op.iterations.value.data for op in decompositions})),
        sum(LAYER in op.attributes for op in operations),
        _describe_weights([op for op in operations if isinstance(op, WeightOp)]),
    )


def _describe_weights(found: Sequence[WeightOp]) -> str:
    """Layers, sites, ranks and method of weights in factors."""
    if not found:
        return ""
    layers, ranks = (
        ", ".join(map(str, sorted(values)))
        for values in ({op.layer.value.data for op in found}, {op.weight.type.ranks[0] for op in found})
    )
    sites = ", ".join(site for site in SITES if any(op.site.data == site for op in found))
    methods = " and ".join(dict.fromkeys(op.method.data for op in found))
    return f"weights of layers {layers}, sites {sites}, rank {ranks} by {methods}"


def check_weights(module: ModuleOp, weights: Mapping[str, Array]) -> None:
    """Raise `DcomError` when the model lacks a weight of the program, or has it in another shape."""
    for op in module.ops:
        if not isinstance(op, GlobalOp) or not isinstance(op.value, DenseResourceAttr):
            continue
        name, wanted = op.sym_name.data, list(op.value.type.get_shape())
        if name not in weights:
            what = f"the model has no weight '{name}', which the program uses"
            raise DcomError(what, hint="give the model that was traced")
        if list(weights[name].shape) != wanted:
            what = f"weight '{name}' has shape {list(weights[name].shape)}, but the program wants {wanted}"
            raise DcomError(what, hint="give the model that was traced")


class Recorder:
    """Wraps a decomposition and keeps the first input of each layer and site."""

    def __init__(self, inner: Decompose) -> None:
        self._inner = inner
        self.inputs: dict[str, Array] = {}
        """[B*S, H] float32 or float16, by `layer10.qkv`."""

    def decompose(self, op: DecomposeOp, x: Array) -> Factored:
        """What the wrapped decomposition does."""
        self.inputs.setdefault(f"layer{op.layer.value.data}.{op.site.data}", x)
        return self._inner(op, x)


def build_models(
    module: ModuleOp,
    weights: Mapping[str, Array],
    arrays: Arrays,
    decompose: Decompose,
    control_layers: tuple[int, ...],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Forward]:
    """The program and, where `control_layers` says which layers are decomposed, its controls, by name."""
    make = partial(Executor, module, weights, arrays=arrays, progress=progress)
    executors = {PROGRAM: make(decompose=decompose)}
    if control_layers:
        executors["float32"] = make()
        executors["skip_layers"] = make(skip_layers=control_layers)
        executors["rank_0"] = make(decompose=zero_decompose)
    return {name: _forward(executor) for name, executor in executors.items()}


def _forward(executor: Executor) -> Forward:
    def forward(window: Window) -> Array:
        executor.valid_rows = window.valid if window.padded else None
        results = executor.run("main", window.tokens)
        return cast(Array, results[0])

    return forward


def decompositions(program: Program, chosen: Plan | None, arrays: Arrays) -> Decompose:
    """Decompositions by the simulated machine, or where no engine is chosen, in float32 on the host."""
    if chosen is None:
        return partial(host_decompose, by=arrays.lanczos)
    accelerator = Accelerator(program, chosen.engine, chosen.threads)

    def decompose(op: DecomposeOp, x: Array) -> Factored:
        factors, _ = accelerator.decompose(accelerator.launch(op.layer.value.data, op.site.data), x)
        return factors

    return decompose


def _check_tokens(windows: Sequence[Window], vocabulary: object) -> None:
    """Raise `DcomError` for a token that the model has not."""
    most = max(int(window.tokens.max()) for window in windows)
    least = min(int(window.tokens.min()) for window in windows)
    if isinstance(vocabulary, int) and not 0 <= least <= most < vocabulary:
        what = f"token {least if least < 0 else most} is none of the model's {vocabulary:,}"
        raise DcomError(what, hint="give ids of its own tokenizer")


def headline(name: str, windows: Sequence[Window], described: Described, how: str) -> str:
    """What is run, in a line."""
    tokens = sum(sum(window.valid) for window in windows)
    text = f"{name}: {counted(tokens, 'token')} in {counted(len(windows), 'window')}"
    text += f" of {described.batch} x {described.seq_len}; "
    if not described.layers:
        return text + (described.weights or "no layer is decomposed")
    layers, ranks = (", ".join(map(str, values)) for values in (described.layers, described.ranks))
    by = "simulated instructions" if how == "sim" else "float32 on the host"
    sites, projected = (", ".join(names) for names in (described.sites, described.projected))
    if projected:
        sites += f" ({projected} projected on their layer's basis)"
    return (
        text
        + f"layers {layers}, sites {sites}, rank {ranks} decomposed by {by}"
        + (f"; {described.weights}" if described.weights else "")
    )


def _note_on_short(windows: Sequence[Window]) -> str | None:
    """That controls say little, where all prompts are short."""
    longest = max(max(window.valid) for window in windows)
    if longest >= SHORT:
        return None
    tokens = counted(longest, "token")
    return (
        f"note: the controls say little for prompts of {tokens}, most of which a low rank holds; give {SHORT} or more"
    )


def compare(
    program: Program,
    model: "Model | str | Path | torch.nn.Module",
    make_windows: MakeWindows,
    *,
    decompose_with: Literal["sim", "float32"] = "sim",
    controls: bool = True,
    engine: Literal["auto", "reference", "fast"] = "auto",
    threads: int | None = None,
    memory_limit: int | None = None,
    backend: Literal["numpy", "torch"] = "torch",
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> Comparison:
    """Run a program, its controls and the dense model on the same windows; options as for `dcomc.Program.run`.

    With a checkpoint, an interrupted comparison goes on after its last whole window.

    Raises:
        DcomError: what `make_windows` raises, a model that is not the one traced or has no weights, a program without
            a model or whose launches are not its host's, or a device that is not there.
    """
    if not program.host.strip():
        raise DcomError("the program holds no model, only kernels", hint="compile a traced model, or simulate it")
    say = speaker(progress)
    module = parse_module(program.host, ".dcom.host")
    check_launches(program, module)
    described = describe(module)
    factors = check_factors(module, program.factors)
    whole = resolve_model(model).with_weights()
    arrays = make_arrays(backend, device)
    check_configuration(module, whole, say)
    say(f"loading {whole.name}")
    windows = make_windows(whole.tokenizer, described.batch, described.seq_len)
    _check_tokens(windows, whole.config().get("vocab_size"))
    dense = whole.torch_model("f32")
    weights = {**torch_weights(dense), **factors}
    check_weights(module, weights)

    chosen = None
    if decompose_with == "sim":
        work = work_of(program, len(windows))
        chosen = plan(engine, work, program.machine, threads=threads, memory_limit=memory_limit)
    recorder = Recorder(decompositions(program, chosen, arrays))
    bar = EvaluationProgress(described.calls, quiet=not progress)
    layers = described.layers if controls else ()
    models = build_models(module, weights, arrays, recorder.decompose, layers, bar.layer)
    if chosen is None:
        models.pop("float32", None)  # the program itself
    say(headline(whole.name, windows, described, decompose_with))
    if layers and (note := _note_on_short(windows)):
        say(note)
    if chosen and chosen.seconds > PATIENCE_SECONDS:
        say(f"simulation: {chosen}")
    evaluation = Evaluation(dense_forward(dense, device, bar.layer), models)
    if checkpoint is not None:
        digest = hashlib.sha256(program.host.encode()).hexdigest()
        subject = {"program": digest, "weights": weights_digest(weights), "arithmetic": decompose_with}
        checkpoint.attach(evaluation, windows, subject)
        if evaluation.done:
            done = f"{evaluation.done} of {counted(len(windows), 'window')} are done"
            say(f"going on from {checkpoint.path.name}: {done}")
    bar.follow(evaluation, windows)
    scores = evaluation.scores
    return Comparison(
        whole.name,
        described,
        len(windows),
        evaluation.dense,
        scores[PROGRAM],
        {name: scores.get(name, scores[PROGRAM]) for name in CONTROLS if layers},
        chosen.engine if chosen else None,
        recorder.inputs,
    )
