"""Table 3: decomposed activations and weights."""

from dcomc.reproduce.claims import Result, paper_table
from dcomc.reproduce.tables import quality_claims, runtime_claims, weight_memory_claim
from dcomc.reproduce.workbench import Workbench


def reproduce(bench: Workbench) -> Result:
    """Runtime and memory of weights; the columns of quality need runs of a real model."""
    claims = [*runtime_claims(bench, "table3"), *(weight_memory_claim(bench, row) for row in paper_table("table3"))]
    setting = (
        "As table 2, and the weights of the decomposed layers in factors of the same rank. Decomposition times and the "
        "memory of inputs are those of table 2."
    )
    return Result("table3", [*claims, *quality_claims("table3")], setting, (), bench.configuration)
