"""Table 2: decomposed activations, by layers and rank."""

from dcomc.reproduce.claims import Result, paper_table
from dcomc.reproduce.layer_runs import BATCH
from dcomc.reproduce.table_times import decomposition_claims
from dcomc.reproduce.tables import (
    SHORT,
    WORKLOAD,
    dense_claim,
    mean_memory_claim,
    memory_claims,
    quality_claims,
    runtime_claims,
    text_quality_claims,
)
from dcomc.reproduce.workbench import Workbench


def reproduce(bench: Workbench) -> Result:
    """Decomposition times by rank, runtime and memory; the columns of quality need runs of a real model."""
    timed, plots = decomposition_claims(bench, "table2")
    memory = memory_claims(bench, paper_table("table2"))
    claims = [dense_claim(bench), *timed, *runtime_claims(bench, "table2"), *memory, mean_memory_claim(memory)]
    setting = (
        f"{BATCH} prompts of {SHORT} tokens at a time, as ARC-Easy's requests are when each batch is padded to its "
        "longest; rank iterations, one basis a layer, four GPUs that share every layer; on a GPU modified "
        "Gram-Schmidt, prompts one after another; on D-com as many side by side as the compiler finds best. The paper "
        "states none of these, and the ranges are over other choices; the share of exact channels is each row's own. "
        "Memory is of the inputs of all layers' projections. The column of the total runtime's reduction is one less "
        "the model's runtime, which is compared."
    )
    return Result(
        "table2",
        [*claims, *text_quality_claims(), *quality_claims("table2")],
        setting,
        plots,
        bench.configuration(workload=WORKLOAD),
    )
