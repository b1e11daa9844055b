"""Tasks: from texts or questions to prompts, and from the prompts' scores to metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from dcomc.diagnostics import DcomError, counted
from dcomc.documents import Document, read_documents
from dcomc.evaluate import Prompt, PromptScore, split_prompts
from dcomc.evaluation.metrics import Metric
from dcomc.evaluation.questions import (
    Question,
    local_last_words,
    local_questions,
    packaged_questions,
    with_examples,
)
from dcomc.model import Tokenizer
from dcomc.texts import squad_articles

Paths: TypeAlias = Sequence[str | Path]


class Task(Protocol):
    """What is asked of a model."""

    def prompts(self, tokenizer: Tokenizer, seq_len: int) -> list[Prompt]:
        """What the model is to see, in prompts of at most `seq_len` tokens."""
        ...

    def metrics(self, scores: Sequence[PromptScore]) -> dict[str, Metric]:
        """What the scores of those prompts come to, by name."""
        ...


class Perplexity:
    """exp of the mean negative log-likelihood of a token, given those before it in its prompt."""

    def __init__(self, documents: Iterable[Document], max_tokens: int | None = None) -> None:
        """Take documents, of each no more than the first `max_tokens` tokens."""
        self._documents, self._most = documents, max_tokens
        self._sizes: list[int] = []

    def prompts(self, tokenizer: Tokenizer, seq_len: int) -> list[Prompt]:
        """Each document on its own, cut into prompts."""
        texts = [tokenizer.encode(document.text)[: self._most] for document in self._documents]
        cut = [split_prompts(tokens, seq_len) for tokens in texts if len(tokens) > 1]
        if not cut:
            raise DcomError("no text has 2 tokens, and nothing is predicted", hint="give longer texts")
        self._sizes = [len(prompts) for prompts in cut]
        return [prompt for prompts in cut for prompt in prompts]

    def metrics(self, scores: Sequence[PromptScore]) -> dict[str, Metric]:
        """`perplexity`, by document."""
        starts = np.cumsum([0, *self._sizes[:-1]])
        totals, counts = (
            np.add.reduceat(np.array(values, np.float64), starts)
            for values in ([each.loss for each in scores], [each.predictions for each in scores])
        )
        return {"perplexity": Metric(totals, counts, exponential=True)}


class _Continuations:
    """Prompts of a question's context and each of its choices, of which the choice's tokens count."""

    def __init__(self, questions: Sequence[Question]) -> None:
        if not questions:
            raise DcomError("there are no questions", hint="give some")
        self.questions = questions

    def prompts(self, tokenizer: Tokenizer, seq_len: int) -> list[Prompt]:
        """As EleutherAI's lm-evaluation-harness encodes a pair: both together, less the tokens of the context alone.

        A pair that is too long loses its first tokens.
        """
        return [
            _encode_pair(tokenizer, question.context, f" {choice}", seq_len)
            for question in self.questions
            for choice in question.choices
        ]


class MultipleChoice(_Continuations):
    """The choice of the highest log-likelihood: as it is (`acc`), or for each byte of the choice (`acc_norm`)."""

    def metrics(self, scores: Sequence[PromptScore]) -> dict[str, Metric]:
        """`acc` and `acc_norm`, by question; the first of equals is chosen."""
        right: list[tuple[bool, bool]] = []
        remaining = iter(scores)
        for question in self.questions:
            likelihoods = np.array([-score.loss for score in islice(remaining, len(question.choices))])
            lengths = np.array([len(choice.encode()) for choice in question.choices])
            chosen = int(likelihoods.argmax()), int((likelihoods / lengths).argmax())
            right.append((chosen[0] == question.gold, chosen[1] == question.gold))
        plain, normed = np.array(right, np.float64).T
        ones = np.ones(len(right))
        return {"acc": Metric(plain, ones), "acc_norm": Metric(normed, ones)}


class LastWord(_Continuations):
    """The last word of a text: whether each of its tokens is the most likely one, and its perplexity."""

    def metrics(self, scores: Sequence[PromptScore]) -> dict[str, Metric]:
        """`acc` and `perplexity` (of a word, not of a token), by text."""
        ones = np.ones(len(scores))
        return {
            "acc": Metric(np.array([score.greedy for score in scores], np.float64), ones),
            "perplexity": Metric(np.array([score.loss for score in scores]), ones, exponential=True),
        }


def _encode_pair(tokenizer: Tokenizer, context: str, continuation: str, seq_len: int) -> Prompt:
    stripped = context.rstrip()
    whole = tokenizer.encode(stripped + context[len(stripped) :] + continuation)
    first = len(tokenizer.encode(stripped))
    dropped = max(len(whole) - seq_len, 0)
    if not 1 <= first - dropped < len(whole) - dropped:
        what = f"of '{stripped[-20:]}{continuation[:20]}' no context or no continuation fits in"
        raise DcomError(f"{what} {counted(seq_len, 'token')}", hint="compile for longer prompts")
    return Prompt(whole[dropped:], first - dropped)


def _perplexity(data: Paths, limit: int | None, shots: int, max_tokens: int | None) -> Task:
    packaged = (Document(title, "\n\n".join(paragraphs)) for title, paragraphs in squad_articles().items())
    return Perplexity(read_documents(data, limit) if data else islice(packaged, limit), max_tokens)


def _choice(task: str) -> Callable[[Paths, int | None, int, int | None], Task]:
    def make(data: Paths, limit: int | None, shots: int, max_tokens: int | None) -> Task:
        found = local_questions(data) if data else packaged_questions(task)
        return MultipleChoice(with_examples(list(islice(found, None if limit is None else limit + shots)), shots))

    return make


def _last_word(data: Paths, limit: int | None, shots: int, max_tokens: int | None) -> Task:
    found = local_last_words(data) if data else packaged_questions("lambada")
    return LastWord(with_examples(list(islice(found, None if limit is None else limit + shots)), shots))


TASKS: Mapping[str, Callable[[Paths, int | None, int, int | None], Task]] = {
    "perplexity": _perplexity,
    "arc_easy": _choice("arc_easy"),
    "arc_challenge": _choice("arc_challenge"),
    "lambada": _last_word,
}
"""By name: of files (those of a package where there are none), documents at most, examples, and tokens a document."""


@dataclass(frozen=True)
class Judged:
    """The metrics of one model."""

    name: str
    metrics: Mapping[str, Metric]
