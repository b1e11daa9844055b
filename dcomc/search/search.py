"""From calibrations and a budget to a configuration that has been run: `dcomc search`."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from dcomc.compiler import DEFAULT_MACHINE
from dcomc.costs import count_costs
from dcomc.diagnostics import DcomError, counted, write_text
from dcomc.documents import read_documents
from dcomc.estimate import Options
from dcomc.evaluate import Prompt
from dcomc.evaluation.bench import DENSE, Bench, Kept, Results, Variant
from dcomc.model import Model, Tokenizer, resolve_model
from dcomc.pipeline import Decomposition
from dcomc.progress import WorkProgress, speaker
from dcomc.search.order import order_layers, runs_to_order
from dcomc.search.runtime import Runtime
from dcomc.search.space import Calibration, Candidate, Space
from dcomc.state_files import state_path
from passes._sites import check_sites
from runtime.gpu import load_gpu

_FRONT = 12
"""Budgets at which the expected front is drawn."""
_CHOOSING = 4
"""One in so many prompts serves to choose layers by, and not to confirm,"""
_CHOOSING_TOKENS = 2048
"""as far as these are no more tokens than this."""


@dataclass(frozen=True)
class Budget:
    """What may be spent: one of them is given."""

    layers: int | None = None
    """Layers, each with all sites decomposed; of their products as much may be left as by the first calibration."""
    operations: float | None = None
    """The share of the floating-point operations of all products that may be left."""
    runtime: float | None = None
    """The share of the dense model's seconds that may be taken on GPUs with a D-com, by the model of `estimate`."""

    def check(self, layers: int) -> None:
        """Raises `DcomError` for a budget that a model of so many layers does not have."""
        if sum(given is not None for given in vars(self).values()) != 1:
            raise DcomError("give one of layers, operations and runtime", hint="for example 4 layers")
        if self.layers is not None and not 1 <= self.layers <= layers:
            raise DcomError(f"{counted(self.layers, 'layer')} cannot be decomposed", hint=f"the model has {layers}")
        if self.operations is not None and not 0 < self.operations < 1:
            raise DcomError(f"operations {self.operations:g} is not between 0 and 1", hint="such as 0.9")
        if self.runtime is not None and not 0 < self.runtime < inf:
            raise DcomError(f"runtime {self.runtime:g} is not above 0", hint="such as 0.9")


@dataclass(frozen=True)
class Confirmed:
    """A candidate that was run."""

    candidate: Candidate
    ratio: float
    """Its perplexity over the dense one."""
    kept: Kept
    runtime: float | None = None
    """Its seconds over those of the dense model, where the budget is of these."""


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
    host: Options | None = None,
    machine: str = DEFAULT_MACHINE,
    restart: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Found:
    """Choose layers, sites, ranks, blocks and outliers, run the best candidates, and write the best of these.

    Layers are ordered by runs on a part of the texts, each beside those before it (`order_layers`), as the first
    calibration was made. Candidates are the first of these, at the ranks and blocks of least expected loss within the
    budget and as each calibration was made; then the same of any layers and sites, by what each costs alone. They are
    run on the rest of the texts. Each run is kept in `output.state` until the output is written: an interrupted search
    goes on.

    Args:
        model: Hugging Face folder, GGUF file, or preset whose weights are installed.
        calibrations: tables of this model, for other ranks, blocks or shares of outliers.
        texts: to choose and to confirm on, others than those of the calibrations, in prompts of as many tokens.
        output: the file for `dcomc compile --config`.
        budget: what may be spent.
        sites: that may be decomposed.
        confirm: candidates to run.
        max_tokens: of the texts.
        host: the GPUs and the batch of a budget of runtime; one A100 unless given.
        machine: name or TOML file of the D-com beside them.
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
    results = Results(state)
    choosing, bench = (Bench(whole, part, results, device=device) for part in _parts(prompts, tables[0].seq_len))
    space = Space(tables, count_costs(bench.module), tables[0].seq_len)
    budget.check(len(space.layers))
    order = _order(space, tables[0], allowed, budget, choosing, progress)
    runtime = None
    if budget.runtime is not None:
        say("estimating runtimes")
        runtime = Runtime(bench.module, allowed, host or Options(load_gpu("a100-80gb")), machine)
    candidates, most = _candidates(space, tables, budget, allowed, order, runtime)
    candidates = candidates[:confirm]
    tokens = bench.prompts * bench.seq_len
    say(f"{counted(len(candidates), 'candidate')} and the dense model to run on {tokens:,} tokens")
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
            share = None if runtime is None else runtime.share(candidate)
            confirmed.append(Confirmed(candidate, bench.ratio(Variant(options)), bench.kept(options), share))
            bar.advance()
    confirmed.sort(key=lambda each: each.ratio)
    found = Found(confirmed, _front(space, allowed, budget, most), tokens)
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


def _parts(prompts: list[Prompt], seq_len: int) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to choose layers by, and those to confirm on; a single one serves for both."""
    if len(prompts) == 1:
        return prompts, prompts
    count = max(1, min(len(prompts) // _CHOOSING, _CHOOSING_TOKENS // seq_len))
    return prompts[-count:], prompts[:-count]


def _order(
    space: Space, table: Calibration, sites: tuple[str, ...], budget: Budget, bench: Bench, progress: bool
) -> list[int]:
    """The layers in the order of choice, decomposed as a calibration was made."""
    alone = space.alone(table, sites)
    if budget.layers == 1:
        return sorted(alone, key=alone.__getitem__)
    count = runs_to_order(len(alone)) + 1
    speaker(progress)(f"{count} runs on {bench.prompts * bench.seq_len:,} tokens, to choose layers by")
    with WorkProgress(count, "choosing", "runs", quiet=not progress) as bar:
        bench.scores(DENSE)
        bar.advance()

        def together(layers: Sequence[int]) -> float:
            options = Decomposition(
                tuple(sorted(layers)), sites, table.rank, block=table.block, outliers=table.outliers
            )
            loss = bench.loss(Variant(options))
            bar.advance()
            return loss

        order = order_layers(alone, together)
    assert order is not None
    return order


def _candidates(
    space: Space,
    tables: Sequence[Calibration],
    budget: Budget,
    sites: Sequence[str],
    order: Sequence[int],
    runtime: Runtime | None,
) -> tuple[list[Candidate], float]:
    """What to run, from what is expected to be best on, and the operations that may be left.

    First are candidates of the layers that were chosen together; then those of others, by their expected loss.
    """
    most = budget.operations or space.uniform(tables[0], order[: budget.layers], sites).operations
    counts = range(1, len(order) + 1) if budget.layers is None else [budget.layers]

    def fits(candidate: Candidate) -> bool:
        if runtime is not None and budget.runtime is not None:
            return runtime.share(candidate) <= budget.runtime
        return candidate.operations <= most * (1 + 1e-9)

    def as_made(table: Calibration, ranked: Sequence[int], swap: bool = False) -> list[Candidate]:
        """The fewest of the layers that are within the budget; with `swap`, the next one in the place of the last."""
        ways = [space.uniform(table, ranked[:count], sites) for count in counts]
        first = bisect_left(ways, True, key=fits)
        if swap and first < len(ways) and counts[first] < len(ranked):
            layers = [*ranked[: counts[first] - 1], *ranked[counts[first] : counts[first] + 1]]
            ways, first = [space.uniform(table, layers, sites)], 0
        return [way for way in ways[first : first + 1] if fits(way)]

    def by_cost(among: Sequence[int] | None = None) -> list[Candidate]:
        """The ranks and blocks of least expected loss, of some layers or of any."""

        def make(operations: float) -> Candidate:
            return space.allocate(operations, sites, budget.layers, among)

        if runtime is None or budget.runtime is None:
            return [make(most)]
        found = runtime.within(budget.runtime, make)
        return [] if found is None else [found]

    alone = by_cost()
    for table in tables:
        costs = space.alone(table, sites)
        ranked = sorted(costs, key=costs.__getitem__)
        alone += [*as_made(table, ranked), *as_made(table, ranked, swap=True)]
    together = [candidate for table in tables for candidate in as_made(table, order)]
    together += [candidate for first in together[:1] for candidate in by_cost(first.layers)]
    found = [*sorted(together, key=lambda each: each.loss), *sorted(alone, key=lambda each: each.loss)]
    if not found:
        assert runtime is not None and budget.runtime is not None
        what = f"{budget.runtime:.1%} of the runtime cannot be reached; {runtime.least:.1%} is the least that was found"
        raise DcomError(what, hint="give more, or a larger batch")
    if budget.runtime is not None:
        most = max(candidate.operations for candidate in found)
    return list({candidate.to_toml(): candidate for candidate in found}.values()), most


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
