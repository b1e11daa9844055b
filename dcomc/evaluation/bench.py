"""Many variants of one model on the same prompts, each computed once and kept: what searches and grids are made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import exp
from pathlib import Path
from typing import Any, Literal

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from dcomc import __version__
from dcomc.compiler import factors_of, lower
from dcomc.costs import count_costs
from dcomc.diagnostics import DcomError, write_text
from dcomc.evaluate import Array, Forward, Prompt, PromptScore, Scores, dense_forward, make_windows, torch_weights
from dcomc.evaluation.checkpoint import digest_windows
from dcomc.model import Model
from dcomc.pipeline import Decomposition
from dcomc.tracer import trace
from dcomc.weights import weights_digest
from dialects.dcom import DecomposeOp, ProjectOp
from runtime.executor import Executor
from runtime.executor_arrays import make_arrays
from runtime.executor_dcom import zero_decompose

_WINDOWS = 16
"""Windows that are run, and kept, together."""


@dataclass(frozen=True)
class Variant:
    """A form of a model: dense, decomposed, or a control of what is decomposed."""

    options: Decomposition | None = None
    control: Literal["", "skip_layers", "rank_0"] = ""

    def to_json(self) -> dict[str, Any]:
        """All that its results depend on, with the texts of the files that it names."""
        if self.options is None:
            return {}
        values = asdict(self.options)
        del values["streams"]  # of the machine: numbers do not depend on it
        for name in ("config", "outliers"):
            if isinstance(values[name], str):
                values[name] = Path(values[name]).read_text(encoding="utf-8")
        return {"options": values, "control": self.control}


DENSE = Variant()


@dataclass(frozen=True)
class Kept:
    """Floating-point operations, by shares of the dense ones of what is decomposed."""

    products: float
    """Operations of the products with weights: those by factors and with exact parts, and the reconstructions."""
    decomposition: float
    """Operations of finding the factors, which an accelerator does."""
    model: float
    """Operations of the products, as a share of all projections of the model."""
    matvecs: float
    """Not a share: products of what is decomposed with a vector, to find the factors, for each site on average."""


class Results:
    """Scores by what they are of, in a JSON file of a line each, that is replaced whole whenever one is added."""

    def __init__(self, path: Path | None) -> None:
        """Read the file, where there is one; keep results in memory alone without a path.

        Raises:
            DcomError: it is no such file.
        """
        self._path = path
        self._known: dict[str, list[list[Any]]] = {}
        if path is not None and path.exists():
            try:
                self._known = {str(key): list(value) for key, value in json.loads(path.read_bytes()).items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise DcomError(f"{path} holds no results, or is damaged", hint="remove it to begin anew") from error

    def get(self, key: str) -> list[PromptScore] | None:
        """What was added under a key."""
        found = self._known.get(key)
        return None if found is None else [PromptScore(*score) for score in found]

    def add(self, key: str, scores: Sequence[PromptScore]) -> None:
        """Keep scores."""
        self._known[key] = [[score.loss, score.predictions, score.greedy] for score in scores]
        if self._path is not None:
            lines = (f'"{key}": {json.dumps(known, allow_nan=False)}' for key, known in self._known.items())
            write_text(self._path, "{\n" + ",\n".join(lines) + "\n}\n")


class Bench:
    """A model and prompts."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Prompt],
        results: Results,
        *,
        seq_len: int | None = None,
        batch: int = 1,
        device: str = "cpu",
    ) -> None:
        """Prepare.

        Args:
            model: with weights.
            prompts: padded to `seq_len` tokens, or to the longest of them.
            results: where what is computed is kept.
            batch: prompts that are run together.
            device: where torch computes, such as `cuda:0`.
        """
        self.model = model
        self.seq_len = seq_len or max(len(prompt.tokens) for prompt in prompts)
        self._batch, self._device, self._results = batch, device, results
        self._windows = make_windows(prompts, batch, self.seq_len)

    @cached_property
    def module(self) -> ModuleOp:
        """The traced model, float32."""
        return trace(self.model, self.seq_len, self._batch)

    @cached_property
    def _weights(self) -> Mapping[str, Array]:
        return torch_weights(self.model.torch_model("f32"))

    @cached_property
    def _digest(self) -> str:
        return weights_digest(self._weights)

    @property
    def prompts(self) -> int:
        """Prompts, those that fill up the last batch included."""
        return len(self._windows) * self._batch

    def missing(self, variant: Variant) -> int:
        """Parts of the work whose results are not yet there."""
        return sum(self._results.get(key) is None for key, _ in self._parts(variant))

    def scores(self, variant: Variant = DENSE) -> list[PromptScore]:
        """The score of each prompt.

        Raises:
            DcomError: options that do not fit the model, or logits that are not finite.
        """
        parts = self._parts(variant)
        known = {key: self._results.get(key) for key, _ in parts}
        if None in known.values():
            forward = self._forward(variant)
            for key, windows in parts:
                if known[key] is None:
                    found = Scores()
                    for window in windows:
                        logits = forward(window)
                        found.add(window, logits, logits, "the model")
                    self._results.add(key, found.prompts)
                    known[key] = found.prompts
        return [score for found in known.values() for score in found or ()]

    def loss(self, variant: Variant = DENSE) -> float:
        """The mean negative log-likelihood of a predicted token."""
        scores = self.scores(variant)
        return sum(score.loss for score in scores) / sum(score.predictions for score in scores)

    def ratio(self, variant: Variant) -> float:
        """The perplexity over the dense one."""
        return exp(self.loss(variant) - self.loss())

    def kept(self, options: Decomposition) -> Kept:
        """What is left of the operations, counted from the compiled module."""
        module = self._lowered(options)
        costs = count_costs(module)
        of_them = [cost for cost in costs if cost.factors is not None]
        dense = sum(cost.dense.flops for cost in of_them)
        left = sum(cost.work.flops for cost in of_them)
        whole = sum(cost.dense.flops for cost in costs)
        found = sum(cost.decomposition.flops for cost in of_them)
        matvecs = sum(map(_matvecs, module.walk()))
        return Kept(left / dense, found / dense, 1 - (dense - left) / whole, matvecs / len(of_them))

    def _parts(self, variant: Variant) -> list[tuple[str, list[Any]]]:
        """Windows that belong together, by the key of their results."""
        described = json.dumps([__version__, self._digest, variant.to_json()], sort_keys=True)
        parts = [self._windows[start : start + _WINDOWS] for start in range(0, len(self._windows), _WINDOWS)]
        return [(hashlib.sha256((described + digest_windows(part)).encode()).hexdigest(), part) for part in parts]

    def _lowered(self, options: Decomposition) -> ModuleOp:
        return lower(self.module.clone(), options, level="dcom")

    def _forward(self, variant: Variant) -> Forward:
        if variant.options is None:
            return dense_forward(self.model.torch_model("f32"), self._device)
        module = self._lowered(variant.options)
        executor = Executor(
            module,
            {**self._weights, **factors_of(module, variant.options, self.model)},
            arrays=make_arrays("torch", self._device),
            decompose=zero_decompose if variant.control == "rank_0" else None,
            skip_layers=variant.options.layers if variant.control == "skip_layers" else (),
        )

        def forward(window: Any) -> Array:
            executor.valid_rows = window.valid if window.padded else None
            return executor.run("main", window.tokens)[0]

        return forward


def _matvecs(op: Operation) -> int:
    """Matrix-vector products of one operation: Lanczos multiplies with the matrix and with its transpose in each step;
    a projection, by U."""
    match op:
        case DecomposeOp():
            return 2 * op.iterations.value.data
        case ProjectOp():
            return op.factors.type.rank.data
        case _:
            return 0
