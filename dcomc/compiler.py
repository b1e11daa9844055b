"""From a traced module to a program."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from dcomc.activations import read_archive, to_half
from dcomc.diagnostics import DcomError, readable
from dcomc.encode import make_program
from dcomc.instrumentation import Instrumentation
from dcomc.ir import make_context, place_of, read_module
from dcomc.pipeline import (
    Decomposition,
    WeightDecomposition,
    compile_pipeline,
    passes_done,
    passes_evident,
    run_passes,
)
from dcomc.program import Program
from dcomc.progress import speaker
from dialects import cluster, isa
from dialects.dcom import SITES, WeightOp
from passes._sites import Layers, read_config
from runtime.machine import load_machine

if TYPE_CHECKING:
    from dcomc.model import Model

DEFAULT_MACHINE = "dcom-16x16"
_LEVELS = ("dcom", "cluster", "isa")
"""Where `lower` can stop, from above."""


def compile(
    module: ModuleOp | str | Path,
    decompose_layers: Iterable[int] = (),
    *,
    sites: Iterable[str] = tuple(SITES),
    rank: int = 10,
    iterations: int | None = None,
    block: int | None = None,
    reorthogonalisation: int = 2,
    seed: int = 0,
    gram_schmidt: str = "classical",
    start: str = "random",
    outliers: float | str | Path = 3.0,
    energy: float | None = None,
    exact_rows: float = 0.0,
    reuse: Iterable[str] = (),
    config: str | Path | None = None,
    weights: WeightDecomposition | None = None,
    model: "Model | str | Path | None" = None,
    machine: str | Path = DEFAULT_MACHINE,
    mapping: str = "auto",
    streams: str = "auto",
    activations: Mapping[str, NDArray[Any]] | str | Path | None = None,
) -> Program:
    """Decompose layers of a traced model and make a program for the accelerator and its host.

    Args:
        module: what `dcomc.trace` returned, which stays as it is, or a file of it.
        decompose_layers: numbers of layers; none: the dense model.
        sites: inputs of projections to decompose: `qkv`, `o`, `gate_up`, `down`.
        rank: columns of the factors.
        iterations: Lanczos steps, at least the rank; rank + 5 unless given.
        block: tokens that share a basis; all of a prompt unless given.
        reorthogonalisation: Gram-Schmidt passes a vector.
        seed: of the start vector.
        gram_schmidt: `classical`, each new vector against all before at once; or `modified`, one after another.
        start: `random`, from the seed; or `mean`, the mean of a block's tokens.
        outliers: channels kept exact, in percent; or the TOML file of a thresholds table.
        energy: the share of a block's energy at which the rank is cut, from above 0 to 1.
        exact_rows: tokens kept exact, in percent.
        reuse: sites projected on the basis of their layer's first.
        config: a TOML file of options of single layers and sites (`dcomc.config.SiteConfig`).
        weights: which weights to put in factors too, and how.
        model: whose weights they are: the one that was traced.
        machine: name or TOML file of the accelerator.
        mapping: which clusters decompose a matrix together: `grid`, `column`, `cluster`, rows and columns of clusters
            such as `8x8`, or `auto`, which chooses by the shape and number of matrices.
        streams: rows and columns of equal rectangles of clusters, such as `2x2`, each of which takes its share of a
            launch's matrices at its own pace; or `auto`: beside the mapping `auto` those that save cycles, else one.
        activations: inputs of launches to store in the program, [prompts * S, H] by launch, such as `layer10.qkv`; or
            an .npz file of them.

    Raises:
        DcomError: an option out of range, a layer or a site that the model has not, a file that cannot be read, or IR
            that is not of a traced model.
    """
    _check_sequences(decompose_layers=decompose_layers, sites=sites, reuse=reuse)
    decompose_layers, sites, reuse = tuple(decompose_layers), tuple(sites), tuple(reuse)
    _check_types(int, "an integer", rank=rank, reorthogonalisation=reorthogonalisation, seed=seed)
    _check_types((int, NoneType), "an integer", iterations=iterations, block=block)
    _check_types((Real, str, Path), "a number, or a thresholds TOML file", outliers=outliers)
    _check_types(Real, "a number", exact_rows=exact_rows)
    _check_types((Real, NoneType), "a number", energy=energy)
    _check_types(str, "a word", gram_schmidt=gram_schmidt, start=start, mapping=mapping, streams=streams)
    _check_elements(Integral, "numbers of layers, such as 10", decompose_layers=decompose_layers)
    _check_elements(str, "names, such as 'qkv'", sites=sites, reuse=reuse)
    options = Decomposition(
        layers=tuple(sorted({int(layer) for layer in decompose_layers})),
        sites=sites,
        rank=rank,
        iterations=iterations,
        reorthogonalisation=reorthogonalisation,
        seed=seed,
        gram_schmidt=gram_schmidt,
        start=start,
        outliers=str(outliers) if isinstance(outliers, Path) else outliers,
        block=block,
        energy=energy,
        exact_rows=exact_rows,
        reuse=reuse,
        config=None if config is None else str(config),
        weights=weights,
        mapping=mapping,
        streams=streams,
    )
    stored = read_archive(str(activations)) if isinstance(activations, str | Path) else activations or {}
    source = "" if isinstance(module, ModuleOp) else readable(Path(module).name)
    own = module.clone() if isinstance(module, ModuleOp) else read_module(str(module))
    lowered = lower(own, options, str(machine))
    factors = factors_of(lowered, options, model)
    return make_program(lowered, load_machine(str(machine)), options, source, to_half(stored), factors)


def _check_sequences(**options: object) -> None:
    for name, given in options.items():
        if isinstance(given, str) or not isinstance(given, Iterable):
            shown = f"the text '{given}'" if isinstance(given, str) else repr(given)
            raise DcomError(f"{name} is {shown}", hint="give a sequence, such as [10, 15] or ['qkv']")


def _check_types(kind: type | tuple[type, ...], what: str, **options: object) -> None:
    """Raise `DcomError` for an option that is not of the kind; a truth value is none of them."""
    for name, given in options.items():
        if not isinstance(given, kind) or isinstance(given, bool) or given == "":
            raise DcomError(f"{name} is {given!r}", hint=f"give {what}")


def _check_elements(kind: type, what: str, **options: tuple[object, ...]) -> None:
    for name, given in options.items():
        for each in given:
            if isinstance(each, bool) or not isinstance(each, kind):
                raise DcomError(f"{name} has {each!r}", hint=f"give {what}")


def _check_level(module: ModuleOp, level: str) -> None:
    """Raise `DcomError` where a module has kernels of a level below the one to stop at: passes only lead down."""
    for op in module.body.block.ops:
        for below, kind in (("isa", isa.KernelOp), ("cluster", cluster.KernelOp)):
            if isinstance(op, kind) and _LEVELS.index(below) > _LEVELS.index(level):
                what = f"the module has kernels of the {below} dialect, which is below {level}"
                raise DcomError(what, hint=f"emit {below}, or give the IR from before it", place=place_of(op.location))


def factors_of(
    module: ModuleOp, options: Decomposition, model: "Model | str | Path | None", *, progress: bool = False
) -> dict[str, NDArray[Any]]:
    """The factors of a module's weights, which is marked as the one that they belong to; none where it has no such.

    Args:
        module: as `lower` leaves it.
        options: that it was lowered with.
        model: the one that was traced.
        progress: say on stderr what goes on.

    Raises:
        DcomError: no model, one that is not the one traced or has no weights, or missing statistics.
    """
    if not any(isinstance(op, WeightOp) for op in module.walk()):
        return {}
    from dcomc.factors import compute_factors
    from dcomc.model import resolve_model
    from dcomc.statistics import Statistics

    if model is None:
        raise DcomError("no model given, whose weights are to be decomposed", hint="give the model that was traced")
    weights = options.of_weights()
    path = weights.statistics if weights else None
    statistics = None if path is None else Statistics.read(path)
    return compute_factors(module, resolve_model(model).weights(), statistics, speaker(progress))


def lower(
    module: ModuleOp,
    options: Decomposition,
    machine: str = DEFAULT_MACHINE,
    *,
    level: str = "isa",
    from_stage: str | None = None,
    watch: Instrumentation | None = None,
    progress: bool = False,
    explain: bool = False,
) -> ModuleOp:
    """Run the passes of `dcomc compile` on a module, in place.

    Args:
        module: Level 0 IR, or what such a module was after any of the passes.
        machine: name or TOML file of the accelerator.
        level: where to stop: `dcom`, `cluster` or `isa`.
        from_stage: the pass that the module has behind it, such as `05-cse`; what the IR shows unless given.
        watch: what to verify, time, print and dump.
        progress: say on stderr what goes on.
        explain: print what is expected of each mapping of a kernel to standard error.

    Returns:
        The module.

    Raises:
        DcomError: as `compile`; a stage that the pipeline has not; or a module that is below the level already.
    """
    config = read_config(options.config)
    if config.by_layer:
        config.check_model(Layers.of(module).calls)
    _check_level(module, level)
    passes = compile_pipeline(options, machine, level, explain=explain)
    done = passes_evident(passes, options, module) if from_stage is None else passes_done(passes, from_stage)
    if done and from_stage is None:
        say = speaker(progress)
        say(f"the module has what {passes[done - 1].name} makes: going on after it, with the options it was made with")
    run_passes(make_context(), module, passes[done:], replace(watch or Instrumentation(), passes_before=done))
    return module
