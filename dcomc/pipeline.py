"""Pipelines of passes: the one of `dcomc compile`, and how a pipeline runs, is verified and leaves its dumps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from dcomc.diagnostics import DcomError, write_text
from dcomc.ir import print_module, verify_module
from dialects.dcom import SITES
from passes.cluster_map import ClusterMapPass
from passes.cluster_schedule import ClusterSchedulePass
from passes.dcom_decompose_activations import DcomDecomposeActivationsPass
from passes.dcom_insert_outlier_split import DcomInsertOutlierSplitPass
from passes.dcom_preserve_decomposed import DcomPreserveDecomposedPass
from passes.lower_cluster_to_isa import LowerClusterToIsaPass
from passes.lower_dcom_to_cluster import LowerDcomToClusterPass


@dataclass(frozen=True)
class Decomposition:
    """What to decompose, and how: the options of the passes from Level 0 to the dcom dialect."""

    layers: tuple[int, ...]
    sites: tuple[str, ...] = tuple(SITES)
    rank: int = 10
    iterations: int | None = None
    reorthogonalisation: int = 2
    seed: int = 0
    outlier_percent: float = 0.0
    thresholds: str | None = None
    """A thresholds table, which takes the place of `outlier_percent`."""
    block: int | None = None
    """Tokens that share a basis; all of a prompt unless given."""


def decompose_pipeline(options: Decomposition) -> list[ModulePass]:
    """The passes from a traced module to the dcom dialect; none where no layer is chosen."""
    if not options.layers:
        return []
    passes: list[ModulePass] = []
    if options.thresholds is not None:
        passes.append(
            DcomInsertOutlierSplitPass(layers=options.layers, sites=options.sites, thresholds=options.thresholds)
        )
    elif options.outlier_percent:
        passes.append(
            DcomInsertOutlierSplitPass(layers=options.layers, sites=options.sites, percent=options.outlier_percent)
        )
    passes.append(
        DcomDecomposeActivationsPass(
            layers=options.layers,
            sites=options.sites,
            rank=options.rank,
            iterations=options.iterations,
            reorthogonalisation=options.reorthogonalisation,
            seed=options.seed,
            block=options.block,
        )
    )
    passes.append(DcomPreserveDecomposedPass())
    return passes


def cluster_pipeline(machine: str) -> list[ModulePass]:
    """The passes from the dcom dialect to mapped and scheduled kernels for a machine, by name or TOML file."""
    return [LowerDcomToClusterPass(), ClusterMapPass(machine), ClusterSchedulePass(machine)]


def isa_pipeline(machine: str) -> list[ModulePass]:
    """The passes from scheduled kernels to instructions."""
    return [LowerClusterToIsaPass(machine)]


def run_passes(context: Context, module: ModuleOp, passes: Sequence[ModulePass], dump_dir: Path | None = None) -> None:
    """Run `passes` on `module` in place, and verify it after each.

    Args:
        dump_dir: a folder, made where missing, for `00-input.mlir` and, after each pass that changes the module,
            `NN-pass-name.mlir`. A dump has locations, and `dcomc opt` can go on from it.

    Raises:
        DcomError: a pass refuses the module, or leaves it invalid; the folder cannot be written.
    """
    text = _dump(dump_dir, "00-input", module, "")
    for number, pass_ in enumerate(passes, start=1):
        try:
            pass_.apply(context, module)
        except VerifyException as error:
            raise DcomError(f"pass {pass_.name} made an invalid operation: {error}") from error
        try:
            verify_module(module, f"after {pass_.name}")
        except DcomError as error:
            raise DcomError(
                f"pass {pass_.name} left the module invalid: {error.what}",
                hint="this is a mistake of the pass; --dump-ir-dir shows the module before it",
            ) from error
        text = _dump(dump_dir, f"{number:02}-{pass_.name}", module, text)


def _dump(folder: Path | None, name: str, module: ModuleOp, before: str) -> str:
    """Write the module where it differs from `before`; returns its text ("" where nothing is dumped)."""
    if folder is None:
        return ""
    text = print_module(module)
    if text != before:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DcomError(f"cannot make {folder}: {error.strerror}", hint="give a folder to write to") from error
        write_text(folder / f"{name}.mlir", text)
    return text
