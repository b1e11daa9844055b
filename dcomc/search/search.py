"""From calibrations and a budget to a configuration that has been run: `dcomc search`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from dcomc.search.bases import LONGER, OWN, SAVED, SHARED, Bases
from dcomc.search.candidates import Budget, Candidates
from dcomc.search.order import order_layers, runs_to_order
from dcomc.search.runtime import Runtime
from dcomc.search.space import LEAST, Calibration, Candidate, Space
from dcomc.state_files import state_path
from passes._sites import check_sites
from runtime.gpu import load_gpu

_CHOOSING = 4
"""One in so many prompts serves to choose layers by, and not to confirm,"""
_CHOOSING_TOKENS = 2048
"""as far as these are no more tokens than this."""


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
    """The candidates that were run, from the best to the worst."""
    front: Sequence[Candidate]
    """Expected, from few operations to many."""
    tokens: int
    """Tokens that each was run on."""


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
    """Choose layers, sites, ranks, blocks, outliers and bases, run the best candidates, and write the best of these.

    Layers are ordered by runs on a part of the texts, each beside those before it (`order_layers`), as the first
    calibration was made, as far as that takes layers to keep the budget; those layers are run with other bases there,
    too. Candidates are the first of these, at the ranks, blocks and bases of least expected loss within the budget and
    as each calibration was made; then the same of any layers and sites, by what each costs alone. They are run on the
    rest of the texts. Each run is kept in `output.state` until the output is written: an interrupted search goes on.

    With a budget of layers or of operations, bases take no more matrix-vector operations than where each site finds its
    own; with one of runtime, what they take is in it.

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
    tables = _read_calibrations(calibrations, whole.name)
    say(f"loading {whole.name}")
    prompts = _prompts(whole.tokenizer(), texts, tables[0].seq_len, max_tokens)
    state = state_path(output)
    if restart:
        state.unlink(missing_ok=True)
    results = Results(state)
    choosing, bench = (Bench(whole, part, results, device=device) for part in _parts(prompts, tables[0].seq_len))
    space = Space(tables, count_costs(bench.module), tables[0].seq_len)
    budget.check(len(space.layers))
    runtime = None
    if budget.runtime is not None:
        say("estimating runtimes")
        runtime = Runtime(bench.module, allowed, host or Options(load_gpu("a100-80gb")), machine)
    ways = Candidates(space, tables, budget, allowed, runtime)
    others = [*([SHARED, SAVED] if len(allowed) > 1 else []), *([] if runtime is None else [LONGER])]
    order, bases = _choose(space, tables[0], ways.layers(), allowed, others, choosing, progress)
    ways = replace(ways, bases=bases)
    candidates, most = ways.make(order)
    candidates = candidates[:confirm]
    tokens = bench.prompts * bench.seq_len
    say(f"{counted(len(candidates), 'candidate')} and the dense model to run on {tokens:,} tokens")
    found = Found(_confirm(candidates, allowed, bench, runtime, progress), ways.front(most), tokens)
    write_text(output, _config(found, whole.name, allowed))
    state.unlink(missing_ok=True)
    return found


def _read_calibrations(paths: Sequence[str | Path], model: str) -> list[Calibration]:
    """The tables; raises `DcomError` unless all are of a model, at prompts of one length."""
    tables = [Calibration.read(path) for path in paths]
    for table in tables:
        if table.model != model or table.seq_len != tables[0].seq_len:
            what = f"the calibration is of {table.model} at {table.seq_len} tokens"
            raise DcomError(what, hint=f"give those of {model} at one length", place=table.path)
    return tables


def _confirm(
    candidates: Sequence[Candidate], sites: tuple[str, ...], bench: Bench, runtime: Runtime | None, progress: bool
) -> list[Confirmed]:
    """Run the candidates, and the dense model before them; returns them from the best to the worst."""
    confirmed: list[Confirmed] = []
    with (
        TemporaryDirectory() as folder,
        WorkProgress(len(candidates) + 1, "running", "runs", quiet=not progress) as bar,
    ):
        bench.scores()
        bar.advance()
        for candidate in candidates:
            options = _options(candidate, sites, Path(folder))
            share = None if runtime is None else runtime.share(candidate)
            confirmed.append(Confirmed(candidate, bench.ratio(Variant(options)), bench.kept(options), share))
            bar.advance()
    return sorted(confirmed, key=lambda each: each.ratio)


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


def _options(candidate: Candidate, sites: tuple[str, ...], folder: Path) -> Decomposition:
    """The decomposition of a candidate, by a file in a folder that is read before the next one is written."""
    file = folder / "config.toml"
    write_text(file, candidate.to_toml())
    return Decomposition(candidate.layers, sites, config=str(file))


def _choose(
    space: Space,
    table: Calibration,
    count: int,
    sites: tuple[str, ...],
    others: Sequence[Bases],
    bench: Bench,
    progress: bool,
) -> tuple[list[int], list[Bases]]:
    """The layers in the order of choice, so many of them one beside another; and the bases that serve these.

    All is decomposed as a calibration was made. Of other bases there are those that lose least, if less than the own.

    Args:
        others: bases that sites may have, besides their own.
    """
    say = speaker(progress)
    alone = space.alone(table, sites)
    runs = runs_to_order(len(alone), count) + 2 + len(others)
    say(f"{runs} runs on {bench.prompts * bench.seq_len:,} tokens, to choose layers and bases by")
    with TemporaryDirectory() as folder, WorkProgress(runs, "choosing", "runs", quiet=not progress) as bar:

        def loss(variant: Variant) -> float:
            found = bench.loss(variant)
            bar.advance()
            return found

        dense = loss(DENSE)

        def together(layers: Sequence[int]) -> float:
            chosen = tuple(sorted(layers))
            options = Decomposition(chosen, sites, table.rank, block=table.block, outliers=table.outliers)
            return loss(Variant(options)) - dense

        order = order_layers(alone, together, count)
        assert order is not None
        own = max(together(order[:count]), LEAST)
        tried: list[Bases] = []
        for bases in others:
            options = _options(space.uniform(table, order[:count], sites, bases), sites, Path(folder))
            tried.append(replace(bases, factor=max(loss(Variant(options)) - dense, LEAST) / own))
    for bases in tried:
        say(f"{bases.name}: {bases.factor:.2f} times the loss of {counted(count, 'layer')}")
    best = sorted(tried, key=lambda bases: bases.factor)[:1]
    return order, [OWN, *(bases for bases in best if bases.factor < 1)]


def _config(found: Found, model: str, sites: Sequence[str]) -> str:
    best = found.confirmed[0]
    layers = ",".join(map(str, best.candidate.layers))
    left = f"{best.kept.model:.1%} of the operations of all projections left and {best.kept.matvecs:.0f}"
    comment = [
        f"Made by `dcomc search` for {model}: {best.ratio:.4f} times the dense perplexity on {found.tokens:,} tokens,",
        f"with {left} matrix-vector ones a site. Compile with",
        f"--decompose-layers={layers} --sites={','.join(sites)} --outliers=0 --config=THIS_FILE",
    ]
    return best.candidate.to_toml(comment)
