"""From calibrations and a budget to a configuration that has been run: `dcomc search`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dcomc.costs import count_costs
from dcomc.diagnostics import DcomError, counted, write_text
from dcomc.documents import read_documents
from dcomc.evaluate import Prompt
from dcomc.evaluation.bench import Bench, Kept, Results, Variant
from dcomc.model import Model, Tokenizer, resolve_model
from dcomc.pipeline import Decomposition
from dcomc.progress import WorkProgress, speaker
from dcomc.search.space import Calibration, Candidate, Space
from dcomc.state_files import state_path
from passes._sites import check_sites

_FRONT = 12
"""Budgets at which the expected front is drawn."""


@dataclass(frozen=True)
class Budget:
    """What may be spent: one of them is given."""

    layers: int | None = None
    """Layers, each with all sites decomposed; of their products as much may be left as by the first calibration."""
    operations: float | None = None
    """The share of the floating-point operations of all products that may be left."""

    def check(self, layers: int) -> None:
        """Raises `DcomError` for a budget that a model of so many layers does not have."""
        if (self.layers is None) == (self.operations is None):
            raise DcomError("give either layers or operations", hint="for example 4 layers")
        if self.layers is not None and not 1 <= self.layers <= layers:
            raise DcomError(f"{counted(self.layers, 'layer')} cannot be decomposed", hint=f"the model has {layers}")
        if self.operations is not None and not 0 < self.operations < 1:
            raise DcomError(f"operations {self.operations:g} is not between 0 and 1", hint="such as 0.9")


@dataclass(frozen=True)
class Confirmed:
    """A candidate that was run."""

    candidate: Candidate
    ratio: float
    """Its perplexity over the dense one."""
    kept: Kept


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    confirmed: Sequence[Confirmed]
    """From the best to the worst."""
    front: Sequence[Candidate]
    """Expected, from few operations to many."""
    tokens: int
    """That each was run on."""


def search(
    model: Model | str | Path,
    calibrations: Sequence[str | Path],
    texts: Sequence[str | Path],
    output: Path,
    budget: Budget,
    *,
    sites: Sequence[str] = ("qkv", "o", "gate_up", "down"),
    confirm: int = 4,
    max_tokens: int = 8192,
    restart: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Found:
    """Choose layers, sites, ranks, blocks and outliers, run the best candidates, and write the best of these.

    Candidates are the choices of least expected loss within the budget, and the best layers all in the way of each
    calibration. Each run is kept in `output.state` until the output is written: an interrupted search goes on.

    Args:
        model: Hugging Face folder, GGUF file, or preset whose weights are installed.
        calibrations: tables of this model, for other ranks, blocks or shares of outliers.
        texts: to confirm on; others than those of the calibrations. Prompts have as many tokens as theirs.
        output: the file for `dcomc compile --config`.
        budget: what may be spent.
        sites: that may be decomposed.
        confirm: candidates to run.
        max_tokens: of the texts.
        restart: take no notice of what an interrupted search left.
        device: where torch computes, such as `cuda:0`.
        progress: say on stderr what goes on.

    Raises:
        DcomError: a budget that cannot be kept, calibrations of another model, or a text shorter than a prompt.
    """
    say = speaker(progress)
    allowed = check_sites(sites)
    if confirm < 1:
        raise DcomError(f"confirm {confirm} is too small", hint="it goes from 1 upwards")
    whole = resolve_model(model).with_weights()
    tables = [Calibration.read(path) for path in calibrations]
    for table in tables:
        if table.model != whole.name or table.seq_len != tables[0].seq_len:
            what = f"the calibration is of {table.model} at {table.seq_len} tokens"
            raise DcomError(what, hint=f"give those of {whole.name} at one length", place=table.path)
    say(f"loading {whole.name}")
    prompts = _prompts(whole.tokenizer(), texts, tables[0].seq_len, max_tokens)
    state = state_path(output)
    if restart:
        state.unlink(missing_ok=True)
    bench = Bench(whole, prompts, Results(state), device=device)
    costs = count_costs(bench.module)
    space = Space(tables, costs, tables[0].seq_len)
    budget.check(len(space.layers))
    candidates, most = _candidates(space, tables, budget, allowed)
    candidates = candidates[:confirm]
    say(
        f"{counted(len(candidates), 'candidate')} and the dense model to run on {len(prompts) * bench.seq_len:,} tokens"
    )
    confirmed: list[Confirmed] = []
    with (
        TemporaryDirectory() as folder,
        WorkProgress(len(candidates) + 1, "running", "runs", quiet=not progress) as bar,
    ):
        bench.scores()
        bar.advance()
        for candidate in candidates:
            file = Path(folder) / "config.toml"
            write_text(file, candidate.to_toml())
            options = Decomposition(candidate.layers, allowed, config=str(file))
            confirmed.append(Confirmed(candidate, bench.ratio(Variant(options)), bench.kept(options)))
            bar.advance()
    confirmed.sort(key=lambda each: each.ratio)
    found = Found(confirmed, _front(space, allowed, budget, most), len(prompts) * bench.seq_len)
    write_text(output, _config(found, whole.name, allowed))
    state.unlink(missing_ok=True)
    return found


def _prompts(tokenizer: Tokenizer, texts: Sequence[str | Path], seq_len: int, most: int) -> list[Prompt]:
    """Whole prompts: none holds two texts."""
    prompts: list[Prompt] = []
    for document in read_documents(texts):
        tokens = tokenizer.encode(document.text)
        prompts += [Prompt(tokens[start : start + seq_len]) for start in range(0, len(tokens) - seq_len + 1, seq_len)]
        if len(prompts) * seq_len >= most:
            break
    if not prompts:
        raise DcomError(f"no text has the {seq_len} tokens of a prompt", hint="give longer texts")
    return prompts[: max(1, most // seq_len)]


def _candidates(
    space: Space, tables: Sequence[Calibration], budget: Budget, sites: Sequence[str]
) -> tuple[list[Candidate], float]:
    """What to run, from the least expected loss on, and the operations that may be left."""
    if budget.layers is not None:
        most, counts = space.uniform(tables[0], budget.layers, sites).operations, [budget.layers]
    else:
        assert budget.operations is not None
        most, counts = budget.operations, list(range(1, len(space.layers) + 1))
    found = [space.allocate(most, sites, budget.layers)]
    for table in tables:
        for swap in (False, True):
            ways = (space.uniform(table, count, sites, swap) for count in counts)
            found += [way for way in ways if way.operations <= most * (1 + 1e-9)][:1]
    distinct = {candidate.to_toml(): candidate for candidate in found}
    return sorted(distinct.values(), key=lambda candidate: candidate.loss), most


def _front(space: Space, sites: Sequence[str], budget: Budget, most: float) -> list[Candidate]:
    """The least expected loss from half of what the budget saves to one and a half times it, as far as that goes."""
    front: list[Candidate] = []
    for step in range(_FRONT, -1, -1):
        operations = 1 - (1 - most) * (0.5 + step / _FRONT)
        try:
            front.append(space.allocate(operations, sites, budget.layers))
        except DcomError:
            continue
    return front


def _config(found: Found, model: str, sites: Sequence[str]) -> str:
    best = found.confirmed[0]
    layers = ",".join(map(str, best.candidate.layers))
    comment = [
        f"Made by `dcomc search` for {model}: {best.ratio:.4f} times the dense perplexity on {found.tokens:,} tokens,",
        f"with {best.kept.model:.1%} of the operations of all projections left. Compile with",
        f"--decompose-layers={layers} --sites={','.join(sites)} --outliers=0 --config=THIS_FILE",
    ]
    return best.candidate.to_toml(comment)
