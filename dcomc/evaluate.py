"""Quality of a language model on text: perplexity, and agreement with the dense model, window by window."""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import exp
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, counted

if TYPE_CHECKING:
    import torch

Array: TypeAlias = NDArray[Any]

_ROWS = 64
"""Positions whose logits are looked at together: bounds the float64 copies."""

_MOST_LOSS = 700.0
"""The mean loss whose exp is still a float."""


@dataclass(frozen=True)
class Window:
    """Tokens that one run of the model sees."""

    tokens: NDArray[np.int64]
    """[B, S]; a prompt shorter than S is padded on the right with token 0."""
    valid: tuple[int, ...]
    """The number of tokens of each prompt that are no padding; 0 for a prompt that is all padding."""
    first: tuple[int, ...] = ()
    """The first token of each prompt that counts as predicted, at least 1; all of them 1 unless given."""

    @property
    def padded(self) -> bool:
        """Whether any prompt is padded."""
        return any(rows < self.tokens.shape[1] for rows in self.valid)


Forward: TypeAlias = Callable[[Window], Array]
"""A model: takes a window, returns logits [B, S, V]."""


@dataclass(frozen=True)
class Prompt:
    """Tokens that a model sees on their own."""

    tokens: Sequence[int]
    first: int = 1
    """The first of them that counts as predicted; those before it are context."""


def split_prompts(tokens: Sequence[int], seq_len: int) -> list[Prompt]:
    """Cut `tokens` into consecutive prompts of `seq_len`, the last perhaps shorter.

    Where only one token would be left for it, which predicts nothing, that token is left out.

    Raises:
        DcomError: fewer than two tokens, in all or in a prompt.
    """
    if seq_len < 2:
        raise DcomError(
            f"in prompts of {counted(seq_len, 'token')} nothing is predicted", hint="take prompts of at least 2 tokens"
        )
    if len(tokens) < 2:
        raise DcomError(
            f"the text has {counted(len(tokens), 'token')}, and nothing is predicted",
            hint="give a text of at least 2 tokens",
        )
    prompts = [Prompt(tokens[start : start + seq_len]) for start in range(0, len(tokens), seq_len)]
    return prompts[:-1] if len(prompts[-1].tokens) == 1 else prompts


def make_windows(prompts: Sequence[Prompt], batch: int, seq_len: int) -> list[Window]:
    """Windows of `batch` prompts each, padded on the right to `seq_len`; the last is filled up with empty prompts."""
    windows: list[Window] = []
    for start in range(0, len(prompts), batch):
        group = prompts[start : start + batch]
        tokens = np.zeros((batch, seq_len), np.int64)
        for row, prompt in zip(tokens, group, strict=False):
            row[: len(prompt.tokens)] = prompt.tokens
        empty = batch - len(group)
        valid = (*(len(prompt.tokens) for prompt in group), *(0,) * empty)
        windows.append(Window(tokens, valid, (*(prompt.first for prompt in group), *(1,) * empty)))
    return windows


def split_windows(tokens: Sequence[int], batch: int, seq_len: int) -> list[Window]:
    """The prompts of `split_prompts`, `batch` of them a window."""
    return make_windows(split_prompts(tokens, seq_len), batch, seq_len)


@dataclass(frozen=True)
class PromptScore:
    """How well a model predicts one prompt, from its first predicted token on."""

    loss: float
    """The sum of the negative log-likelihoods, in nats."""
    predictions: int
    """Tokens predicted."""
    greedy: bool
    """Whether each of them is the model's most likely one."""


@dataclass
class Scores:
    """What is known of one model after some windows."""

    tokens: int = 0
    """Tokens seen, padding left out."""
    predictions: int = 0
    """Tokens that were predicted from the ones before them in their prompt."""
    loss: float = 0.0
    """The sum of their negative log-likelihoods."""
    agreements: int = 0
    """Positions at which the most likely next token is that of the reference."""
    max_logit_difference: float = 0.0
    """The largest difference of a logit from the reference's, at any position that is no padding."""
    prompts: list[PromptScore] = field(default_factory=list[PromptScore])
    """The score of each prompt that is not all padding, in order."""

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood of a predicted token.

        Raises:
            DcomError: it is beyond a float.
        """
        mean = self.loss / self.predictions
        if mean > _MOST_LOSS:
            what = f"the mean negative log-likelihood is {mean:.3g}, beyond that of any text"
            raise DcomError(what, hint="look for damage in the weights")
        return exp(mean)

    @property
    def top1_agreement(self) -> float:
        """The share of positions at which the most likely next token is that of the reference."""
        return self.agreements / self.tokens

    def add(self, window: Window, logits: Array, reference: Array, name: str) -> None:
        """Count a window.

        Args:
            window: the tokens.
            logits: [B, S, V] of the model.
            name: of the model, for errors.
            reference: [B, S, V] of the model that it is compared with; perhaps the same array.

        Raises:
            DcomError: logits that are not finite, or not of the reference's shape.
        """
        if logits.shape != reference.shape:
            raise DcomError(
                f"the logits of {name} have shape {list(logits.shape)}, of the dense model {list(reference.shape)}",
                hint="give the model that was traced",
            )
        firsts = window.first or (1,) * len(window.valid)
        for prompt, (tokens, valid, first) in enumerate(zip(window.tokens, window.valid, firsts, strict=True)):
            losses, greedy = cast(Array, np.zeros(0)), True
            for start in range(0, valid, _ROWS):
                stop = min(start + _ROWS, valid)
                if not np.isfinite(logits[prompt, start:stop]).all():
                    what = f"NaN or infinity in the logits of {name}"
                    raise DcomError(what, hint="look for damage in the weights, or trace with --dtype f32")
                chosen = self._compare(logits[prompt, start:stop], reference[prompt, start:stop])
                skip = max(first - 1 - start, 0)
                targets = tokens[start + 1 : min(stop + 1, valid)][skip:]
                losses = np.append(losses, _losses(logits[prompt, start:stop][skip:], targets))
                greedy = greedy and bool((chosen[skip:][: len(targets)] == targets).all())
            if valid:
                self.tokens += valid
                self.predictions += len(losses)
                self.loss += float(losses.sum())
                self.prompts.append(PromptScore(float(losses.sum()), len(losses), greedy))

    def _compare(self, logits: Array, reference: Array) -> Array:
        """Count some positions of one prompt, logits [N, V]; returns the most likely next tokens [N]."""
        chosen = cast(Array, logits.argmax(-1))
        self.agreements += int((chosen == reference.argmax(-1)).sum())
        difference = np.abs(logits.astype(np.float64) - reference).max()
        self.max_logit_difference = max(self.max_logit_difference, float(difference))
        return chosen


def _losses(logits: Array, targets: Array) -> Array:
    """The negative log-likelihoods [M] of targets [M] by the first M rows of logits [N, V]."""
    exact = logits[: len(targets)].astype(np.float64)
    highest = exact.max(-1, keepdims=True)
    likelihoods = highest[:, 0] + np.log(np.exp(exact - highest).sum(-1))
    return likelihoods - exact[np.arange(len(targets)), targets]


class _Output(Protocol):
    logits: "torch.Tensor"


def torch_weights(module: "torch.nn.Module") -> dict[str, Array]:
    """The weights of a module by name, as views of its memory; a tied weight under each of its names."""
    return {name: cast(Array, value.numpy()) for name, value in module.state_dict().items()}


def dense_forward(
    module: "torch.nn.Module", device: str = "cpu", progress: Callable[[int], None] | None = None
) -> Forward:
    """The dense reference: a transformers causal language model.

    Padding needs no mask: it is on the right, and attention is causal.

    Args:
        module: the model, on the CPU; where it keeps its decoder layers in a list, each may be followed.
        device: where to compute; a copy of the model goes there.
        progress: called with the layer's number after each decoder layer.
    """
    import torch

    placed = module if device == "cpu" else copy.deepcopy(module).to(device)

    def forward(window: Window) -> Array:
        with torch.inference_mode(), _followed(placed, progress):
            output = cast(_Output, placed(torch.from_numpy(window.tokens).to(device), use_cache=False))
            return output.logits.float().cpu().numpy()

    return forward


@contextmanager
def _followed(module: "torch.nn.Module", progress: Callable[[int], None] | None) -> Generator[None]:
    """Call `progress` after each module of the first list of modules, which is that of the decoder layers."""
    import torch

    def hook(number: int) -> Callable[..., None]:
        return lambda *_: None if progress is None else progress(number)

    lists = (part for part in module.modules() if isinstance(part, torch.nn.ModuleList))
    with ExitStack() as stack:
        for number, layer in enumerate(next(lists, ())):
            stack.callback(layer.register_forward_hook(hook(number)).remove)
        yield


@dataclass
class Evaluation:
    """Several models on the same windows, each compared with the first, the reference.

    Attributes:
        done: windows that `dense` and `scores` hold already, and `run` passes over.
        after: called after each window.
    """

    reference: Forward
    models: Mapping[str, Forward]
    dense: Scores = field(default_factory=Scores)
    scores: dict[str, Scores] = field(default_factory=dict[str, Scores])
    done: int = 0
    after: Callable[[], None] = lambda: None

    def run(self, windows: Sequence[Window]) -> Iterator[tuple[int, str]]:
        """Evaluate; yields the window's number and the model's name before each of them runs."""
        self.scores = {name: self.scores.get(name) or Scores() for name in self.models}
        for number, window in islice(enumerate(windows), self.done, None):
            yield number, "dense"
            reference = self.reference(window)
            self.dense.add(window, reference, reference, "the dense model")
            for name, model in self.models.items():
                yield number, name
                self.scores[name].add(window, model(window), reference, f"the {name} run")
            self.done = number + 1
            self.after()
