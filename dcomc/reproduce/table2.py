"""Table 2: decomposed activations, by layers and rank."""

from dcomc.reproduce.claims import Result
from dcomc.reproduce.tables import (
    decomposition_claims,
    mean_memory_claim,
    memory_claims,
    missing_claims,
    runtime_claims,
)
from dcomc.reproduce.workbench import Workbench

_QUALITY = ("outlier_percent", "arc_easy_accuracy_percent", "wikitext2_perplexity")


def reproduce(bench: Workbench) -> Result:
    """Decomposition times by rank, runtime and memory; the columns of quality need runs of a real model."""
    timed, plots = decomposition_claims(bench, "table2")
    memory = memory_claims(bench, "table2")
    claims = [*timed, *runtime_claims(bench, "table2"), *memory, mean_memory_claim(memory)]
    claims += missing_claims("table2", _QUALITY, "it needs Llama-2-7B's weights and runs of `dcomc run` on both texts")
    setting = (
        "64 prompts; times on one GPU and one D-com are compared as ratios, since the paper states neither batch nor "
        "length of prompts (ARC-Easy's average is near 86 tokens by the table's own memory column)."
    )
    return Result("table2", claims, setting, plots, bench.configuration)
