"""From a model and texts to a table: `dcomc calibrate`."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import exp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from dcomc import __version__
from dcomc.calibration.sensitivity import Sensitivity
from dcomc.calibration.state import Place, State
from dcomc.calibration.statistics import Measure, SiteStatistics
from dcomc.calibration.table import SiteRecord, Table
from dcomc.calibration.taps import ProbedExecutor
from dcomc.config import check_limits
from dcomc.diagnostics import DcomError, counted, write_text
from dcomc.documents import read_documents
from dcomc.evaluate import Array, Window, split_windows, torch_weights
from dcomc.model import Model, Tokenizer, resolve_model
from dcomc.progress import WorkProgress, speaker
from dcomc.state_files import state_path
from dcomc.tracer import trace
from dcomc.weights import weights_digest
from dialects.dcom import SITES
from passes._sites import Layers
from runtime.executor_arrays import NUMPY, Arrays, make_arrays

FORMAT = 1
RANKS = (1, 2, 4, 5, 8, 10, 15, 16, 20)
"""Ranks whose captured energies the table lists: those up to the measured rank, and that rank itself."""


@dataclass(frozen=True)
class Options:
    """How to calibrate."""

    seq_len: int = 512
    """Tokens a prompt."""
    max_tokens: int = 16384
    """Tokens of text at most."""
    share: float = 3.0
    """The percentage of channels that should be outliers, on average over prompts."""
    capacity: float = 5.0
    """The percentage of channels that may be outliers in a prompt."""
    min_tokens: float = 1.0
    """The percentage of a prompt's tokens that must exceed the threshold in an outlier channel."""
    rank: int = 10
    """The rank of the decompositions whose sensitivity is measured."""
    block: int | None = None
    """Tokens that share a basis; all of a prompt unless given."""
    sensitivity_tokens: int = 1024
    """Tokens of the text to measure sensitivities on; 0 leaves them out."""

    def check(self) -> None:
        """Raises `DcomError` for what no model can be calibrated with."""
        for name in ("share", "capacity", "min_tokens"):
            check_limits("outliers", getattr(self, name))
        if not 0 < self.share <= self.capacity:
            what = f"a share of {self.share:g}% outliers is not above 0 and at most the capacity, {self.capacity:g}%"
            raise DcomError(what, hint="3 and 5 are the defaults")
        if self.rank < 1 or self.seq_len < 2 or self.sensitivity_tokens < 0:
            raise DcomError("rank, seq-len or sensitivity-tokens is too small", hint="they go from 1, 2 and 0 upwards")
        if self.block is not None and (self.block < 1 or self.seq_len % self.block):
            what = f"blocks of {self.block} tokens do not divide prompts of {self.seq_len}"
            raise DcomError(what, hint="give a divisor of the prompts, or another --seq-len")


def calibrate(
    model: Model | str | Path,
    texts: Iterable[str | Path],
    output: Path,
    options: Options | None = None,
    *,
    restart: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Table:
    """Measure every site of every layer on text, and write the table.

    Memory is bounded by the model, one prompt, and 0.1 MB a site, whatever the text's length. After each prompt, and
    each layer of the sensitivities, the state is written beside the output; a calibration that finds one goes on from
    it, to the same table, byte by byte.

    Args:
        model: Hugging Face folder, GGUF file, or preset whose weights are installed.
        texts: text files, JSON lines files with a `text`, or folders of them.
        output: the table; it is written when it is whole.
        options: how to calibrate.
        restart: take no notice of a state.
        device: where torch computes, such as `cuda:0`.
        progress: say on stderr what goes on.

    Raises:
        DcomError: options out of range, a text shorter than a prompt, NaN in the activations, or the state of another
            calibration.
    """
    chosen = options or Options()
    chosen.check()
    say = speaker(progress)
    whole = resolve_model(model).with_weights()
    say(f"loading {whole.name}")
    tokens = _tokens(whole.tokenizer(), texts, chosen)
    windows = split_windows(tokens, 1, chosen.seq_len)
    module = trace(whole, chosen.seq_len)
    weights = torch_weights(whole.torch_model("f32"))
    identity = _identity(whole, weights, tokens, chosen)
    path = state_path(output)
    state = State(identity) if restart or not path.exists() else State.load(path, identity)
    if state.windows:
        say(f"going on from {path.name}: {state.windows} of {counted(len(windows), 'prompt')} are measured")
    arrays = make_arrays("torch", device)

    probed = ProbedExecutor(module, weights, arrays)
    by = NUMPY if device == "cpu" else arrays  # a prompt at a time, torch's threads cost more than they bring
    with WorkProgress(len(windows), "measuring", "prompts", quiet=not progress) as bar:
        for number, window in enumerate(windows):
            if number >= state.windows:
                _measure(probed, window, state, chosen, by)
                state.save(path)
            bar.advance()
    table = _table(whole.name, module, state, chosen, 0)
    some = windows[: chosen.sensitivity_tokens // chosen.seq_len or min(chosen.sensitivity_tokens, 1)]
    if some:
        with TemporaryDirectory() as folder:
            thresholds = Path(folder) / "thresholds.toml"
            write_text(thresholds, table.to_toml())
            sensitivity = Sensitivity(module, weights, arrays, thresholds, chosen.rank, chosen.block)
        _measure_sensitivities(sensitivity, some, state, partial(state.save, path), progress)
        table = _table(whole.name, module, state, chosen, len(some))
    write_text(output, table.to_toml())
    path.unlink(missing_ok=True)
    return table


def _tokens(tokenizer: Tokenizer, texts: Iterable[str | Path], options: Options) -> list[int]:
    """The tokens of the texts in whole prompts, `max_tokens` at most; no more of the texts is read than that needs.

    Raises:
        DcomError: they are less than a prompt.
    """
    tokens: list[int] = []
    for document in read_documents(texts):
        tokens += tokenizer.encode(document.text)
        if len(tokens) >= options.max_tokens:
            break
    tokens = tokens[: options.max_tokens]
    if len(tokens) < options.seq_len:
        raise DcomError(
            f"the text has {counted(len(tokens), 'token')}, less than a prompt of {options.seq_len}",
            hint="give more text, or a smaller --seq-len",
        )
    return tokens[: len(tokens) // options.seq_len * options.seq_len]


def _identity(model: Model, weights: Mapping[str, Array], tokens: Sequence[int], options: Options) -> dict[str, Any]:
    """What a state must agree on with a calibration that goes on from it; its keys follow "other" in an error."""
    return {
        "format": FORMAT,
        "version of dcomc": __version__,
        "model": hashlib.sha256(json.dumps(model.config(), sort_keys=True).encode()).hexdigest(),
        "weights": weights_digest(weights),
        "text": hashlib.sha256(np.array(tokens).tobytes()).hexdigest(),
        "options": asdict(options),
    }


def _measure(probed: ProbedExecutor, window: Window, state: State, options: Options, arrays: Arrays) -> None:
    """Add one prompt to the statistics."""
    measure = Measure(options.share, options.min_tokens, max(options.rank, RANKS[-1]), options.block)

    def see(layer: int, site: str, x: Array) -> None:
        if not np.isfinite(x).all():
            what = f"NaN or infinity in the activations of layer {layer}, site {site}"
            raise DcomError(what, hint="look for damage in the weights")
        state.sites.setdefault((layer, site), SiteStatistics()).add(x, measure, arrays.lanczos)

    probed.see = see
    probed.run("main", window.tokens)
    state.windows += 1


def _measure_sensitivities(
    sensitivity: Sensitivity, windows: Sequence[Window], state: State, save: "partial[None]", progress: bool
) -> None:
    """Add the losses of the windows, layer by layer."""
    total = len(windows) * len(sensitivity.layers)
    with WorkProgress(total, "decomposing one site at a time", "layers", quiet=not progress) as bar:
        for number, window in enumerate(windows):
            missing = [layer for layer in sensitivity.layers if (number, layer, next(iter(SITES))) not in state.losses]
            for _ in range(len(sensitivity.layers) - len(missing)):
                bar.advance()
            if not missing:
                continue
            state.dense_losses[number:] = [sensitivity.dense_loss(window)]
            for layer in missing:
                found = {(number, layer, site): loss for site, loss in sensitivity.losses(window, layer)}
                state.losses |= found
                save()
                bar.advance()


def _table(name: str, module: ModuleOp, state: State, options: Options, rated: int) -> Table:
    """What the state says, with the sensitivities of so many windows."""
    most = max(options.rank, RANKS[-1])
    ranks = sorted({rank for rank in (*RANKS, options.rank) if rank <= most})
    dense, predicted = sum(state.dense_losses[:rated]), rated * (options.seq_len - 1)
    records: dict[Place, SiteRecord] = {}
    for layer in sorted(Layers.of(module).calls):
        for site in SITES:
            known = state.sites[layer, site]
            threshold, energy = known.threshold(options.share), known.captured()
            losses = [state.losses[number, layer, site] for number in range(rated)]
            records[layer, site] = SiteRecord(
                threshold,
                known.exceeding(threshold),
                known.stable(),
                [float(energy[rank - 1]) for rank in ranks],
                exp((sum(losses) - dense) / predicted) if rated else None,
            )
    details = {
        "tokens": state.windows * options.seq_len,
        "seq_len": options.seq_len,
        "wanted_percent": options.share,
        "rank": options.rank,
        **({"block": options.block} if options.block else {}),
        "ranks": ranks,
    }
    if rated:
        details |= {
            "sensitivity_tokens": rated * options.seq_len,
            "dense_perplexity": round(exp(dense / predicted), 4),
        }
    return Table(name, options.capacity, options.min_tokens, details, records)
