"""The kernel of one decomposition, compiled by itself, for measurements of kernels."""

from dcomc.ir import make_context, parse_module
from dcomc.pipeline import cluster_pipeline, isa_pipeline, run_passes
from dialects import isa
from passes.cluster_expand_reductions import ClusterExpandReductionsPass
from runtime.program import Kernel

MACHINE = "dcom-16x16"


def compile_kernel(
    rows: int,
    cols: int,
    iterations: int,
    *,
    passes: int = 2,
    mapping: str = "grid",
    matrices: int = 1,
    machine: str = MACHINE,
    gram_schmidt: str = "classical",
    expansion: ClusterExpandReductionsPass | None = None,
    streams: str = "auto",
) -> Kernel:
    """The Lanczos kernel of one shape, with `passes` of Gram-Schmidt.

    Args:
        mapping, streams: of `cluster-map`.
        matrices: of its launch: no more of them are in flight.
        expansion: of its reductions, for modified Gram-Schmidt.
    """
    factored = f"!dcom.factored<{matrices}x{rows}x{cols}, rank {iterations}, f32>"
    text = f"""func.func @f(%x: tensor<{matrices * rows}x{cols}xf32>) -> {factored} {{
      %f = dcom.decompose %x {{layer = 0 : i64, site = "qkv", iterations = {iterations} : i64,
        reorthogonalisation = {passes} : i64, seed = 0 : i64, gram_schmidt = "{gram_schmidt}"}}
        : tensor<{matrices * rows}x{cols}xf32> -> {factored}
      func.return %f : {factored}
    }}"""
    context = make_context()
    module = parse_module(text, "kernel.mlir", context)
    lowering, *placing = cluster_pipeline(machine, mapping, streams=streams)
    expanding = [] if expansion is None else [expansion]
    run_passes(context, module, [lowering, *expanding, *placing, *isa_pipeline(machine)])
    (kernel,) = (isa.assemble_kernel(op) for op in module.body.block.ops if isinstance(op, isa.KernelOp))
    return kernel
