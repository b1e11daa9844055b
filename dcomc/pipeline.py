"""Pipelines of passes: the one of `dcomc compile`, and how a pipeline runs, is verified and leaves its dumps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.transforms.canonicalize import CanonicalizePass
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination

from dcomc.config import SiteOptions
from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.instrumentation import CrashGuard, Dumps, Instrumentation, collection_paused, print_after
from dcomc.verification import Verifier, verify
from dialects.dcom import SITES, DecomposeOp, OutlierSplitOp, ProjectOp, TokenSplitOp, WeightOp
from passes._sites import read_config
from passes.cluster_map import ClusterMapPass
from passes.cluster_schedule import ClusterSchedulePass
from passes.dcom_decompose_activations import DcomDecomposeActivationsPass
from passes.dcom_decompose_weights import DcomDecomposeWeightsPass
from passes.dcom_insert_outlier_split import DcomInsertOutlierSplitPass
from passes.dcom_preserve_decomposed import DcomPreserveDecomposedPass
from passes.lower_cluster_to_isa import LowerClusterToIsaPass
from passes.lower_dcom_to_cluster import LowerDcomToClusterPass


@dataclass(frozen=True)
class WeightDecomposition:
    """Which weights to put in factors, and how."""

    layers: tuple[int, ...]
    sites: tuple[str, ...] = tuple(SITES)
    rank: int = 10
    """0: only where the config of the decomposition gives one."""
    method: str = "svd"
    """One of `dialects.dcom.METHODS`."""
    statistics: str | None = None
    """A file made by `dcomc statistics`, for the method `whitened`."""


@dataclass(frozen=True)
class Decomposition:
    """What to decompose, and how: the options of the passes from Level 0 to the dcom dialect."""

    layers: tuple[int, ...]
    sites: tuple[str, ...] = tuple(SITES)
    rank: int = 10
    iterations: int | None = None
    reorthogonalisation: int = 2
    seed: int = 0
    gram_schmidt: str = "classical"
    """`classical` or `modified`."""
    start: str = "random"
    """The start vector of Lanczos: one of `dialects.dcom.STARTS`."""
    outliers: float | str = 0.0
    """Channels kept exact, in percent; or the file of a thresholds table."""
    block: int | None = None
    """Tokens that share a basis; all of a prompt unless given."""
    energy: float | None = None
    """The share of a block's energy that is enough; the rank is the most."""
    exact_rows: float = 0.0
    """Tokens of each prompt kept exact, in percent."""
    reuse: tuple[str, ...] = ()
    """Sites that project on the basis of their layer's first other site."""
    config: str | None = None
    """A TOML file that says otherwise for single layers and sites (`dcomc.config.SiteConfig`)."""
    weights: WeightDecomposition | None = None
    """How weights are decomposed; they stay as they are unless that is given, here or in the config."""
    mapping: str = "auto"
    """Which clusters decompose a matrix together: `mapping` of `cluster-map`."""
    streams: str = "auto"
    """Rectangles of clusters that each take their share of a launch at their own pace: `streams` of `cluster-map`."""

    def of_weights(self) -> WeightDecomposition | None:
        """What to do to the weights: as given; or at the same layers and sites, where the config alone gives ranks."""
        if self.weights is None and read_config(self.config).sets("weight_rank"):
            return WeightDecomposition(self.layers, self.sites, rank=0)
        return self.weights


def decompose_pipeline(options: Decomposition) -> list[ModulePass]:
    """The passes from a traced module to the dcom dialect; none where no layer is chosen."""
    passes = _activation_passes(options) if options.layers else []
    weights = options.of_weights()
    if weights is not None:
        passes.append(DcomDecomposeWeightsPass(**vars(weights), config=options.config))
    return [*passes, DcomPreserveDecomposedPass()] if passes else []


def _activation_passes(options: Decomposition) -> list[ModulePass]:
    passes: list[ModulePass] = []
    if options.outliers or options.exact_rows or options.config:
        passes.append(
            DcomInsertOutlierSplitPass(
                layers=options.layers,
                sites=options.sites,
                outliers=options.outliers or None,
                exact_rows=options.exact_rows or None,
                reuse=options.reuse,
                config=options.config,
            )
        )
    passes.append(
        DcomDecomposeActivationsPass(
            layers=options.layers,
            sites=options.sites,
            rank=options.rank,
            iterations=options.iterations,
            reorthogonalisation=options.reorthogonalisation,
            seed=options.seed,
            gram_schmidt=options.gram_schmidt,
            start=options.start,
            block=options.block,
            energy=options.energy,
            reuse=options.reuse,
            config=options.config,
        )
    )
    return passes


def cluster_pipeline(
    machine: str,
    mapping: str = "grid",
    in_flight: int | None = None,
    *,
    config: str | None = None,
    explain: bool = False,
    streams: str = "auto",
) -> list[ModulePass]:
    """The passes from the dcom dialect to mapped and scheduled kernels for a machine, by name or TOML file.

    Args:
        mapping, in_flight, config, explain, streams: of `cluster-map`.
    """
    return [
        LowerDcomToClusterPass(),
        ClusterMapPass(machine, mapping, in_flight, config, explain, streams),
        ClusterSchedulePass(machine),
    ]


def isa_pipeline(machine: str) -> list[ModulePass]:
    """The passes from scheduled kernels to instructions."""
    return [LowerClusterToIsaPass(machine)]


def compile_pipeline(options: Decomposition, machine: str, level: str, *, explain: bool = False) -> list[ModulePass]:
    """All passes of `dcomc compile`.

    Common subexpressions go before the layers are copied, so that each copy is smaller (by 5%), and once more after
    the decomposition, which makes many equal constants and empty tensors. Dead code elimination alone finds nothing
    that these have left.

    Args:
        level: the one to stop at: `dcom`, `cluster` or `isa`.
        explain: print what is expected of each mapping to standard error.
    """
    passes = decompose_pipeline(options)
    if passes:
        passes = [CommonSubexpressionElimination(), *passes, CanonicalizePass(), CommonSubexpressionElimination()]
    if level != "dcom":
        passes += cluster_pipeline(
            machine, options.mapping, config=options.config, explain=explain, streams=options.streams
        )
    if level == "isa":
        passes += isa_pipeline(machine)
    return passes


def pipeline_text(passes: Sequence[ModulePass]) -> str:
    """A pipeline as `dcomc opt -p` takes it."""
    return ",".join(map(str, passes)) or "builtin.module()"


def passes_done(passes: Sequence[ModulePass], stage: str) -> int:
    """How many of `passes` the IR after `stage` has behind it.

    Args:
        stage: `input`, or a pass; a number before its name, as in `05-cse`, says which of several equal ones.

    Raises:
        DcomError: the pipeline has no such stage, or several of that name.
    """
    stages = {f"{number:02}-{name}": number for number, name in enumerate(["input", *(p.name for p in passes)])}
    wanted = Path(stage).name.removesuffix(".mlir")
    found = [name for name in stages if wanted in (name, name.partition("-")[2])]
    if len(found) == 1:
        return stages[found[0]]
    if found:
        raise DcomError(f"the pipeline runs {wanted} {len(found)} times", hint=f"write one of {', '.join(found)}")
    raise DcomError(f"the pipeline has no stage '{wanted}'", hint=did_you_mean(wanted, stages))


def passes_evident(passes: Sequence[ModulePass], options: Decomposition, module: ModuleOp) -> int:
    """How many of `passes` the module shows to be behind it, so that the dump of any pass can go on.

    Only decomposition matters: the passes below it leave alone what they have done before. It is done where each
    layer and site that is to have its operation does.
    """
    config = read_config(options.config)
    everywhere = SiteOptions(outliers=float(bool(options.outliers)), exact_rows=options.exact_rows)
    chosen = {
        (layer, site): config.options(layer, site, everywhere) for layer in options.layers for site in options.sites
    }
    decomposed = {place for place, site in chosen.items() if site.decompose}
    split = {place for place in decomposed if chosen[place].outliers or chosen[place].exact_rows}
    factored: set[tuple[int, str]] = set()
    weights = options.of_weights()
    if weights is not None:
        given = SiteOptions(weight_rank=weights.rank)
        places = ((layer, site) for layer in weights.layers for site in weights.sites)
        factored = {place for place in places if config.options(*place, given).weight_rank}
    wanted = {
        DcomDecomposeWeightsPass.name: factored,
        DcomDecomposeActivationsPass.name: decomposed,
        DcomInsertOutlierSplitPass.name: split,
    }
    awaited = [name for name, places in wanted.items() if places]
    for op in module.walk():  # what is left in the end has no operation yet
        if isinstance(op, DecomposeOp | ProjectOp):
            decomposed.discard((op.layer.value.data, op.site.data))
        elif isinstance(op, OutlierSplitOp | TokenSplitOp):
            split.discard((op.layer.value.data, op.site.data))
        elif isinstance(op, WeightOp):
            factored.discard((op.layer.value.data, op.site.data))
    names = [pass_.name for pass_ in passes]
    return next((names.index(name) + 1 for name in awaited if not wanted[name]), 0)


def run_passes(
    context: Context, module: ModuleOp, passes: Sequence[ModulePass], watch: Instrumentation | None = None
) -> None:
    """Run `passes` on `module` in place.

    Args:
        watch: what to verify, time, print and dump. Dumps are `00-input.mlir` and, for each pass that changes the
            module, `NN-pass-name.mlir`; they have locations, and `dcomc compile` and `dcomc opt` can go on from each.

    Raises:
        DcomError: a pass refuses the module, crashes, or leaves it invalid; a dump cannot be written.
    """
    watch = watch or Instrumentation()
    dumps = Dumps(watch.dump_dir)
    dumps.write(f"{watch.passes_before:02}-input", module)
    verifier = Verifier()
    for index, pass_ in enumerate(passes):
        with CrashGuard(context, module, passes, index, watch), collection_paused():
            with watch.times.measure(pass_.name) as step:
                pass_.apply(context, module)
            with watch.times.measure_verification():
                if index == len(passes) - 1:
                    verify(module)
                elif watch.verify_each:
                    verifier.verify_changes(module)
        if watch.print_times:
            step.operations = sum(1 for _ in module.walk())
        if watch.print_after_all:
            print_after(pass_, module)
        dumps.write(f"{watch.passes_before + index + 1:02}-{pass_.name}", module)
