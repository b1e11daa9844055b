"""Table 3: decomposed activations and weights."""

from collections.abc import Mapping, Sequence

from dcomc.reproduce.claims import Result, paper_table
from dcomc.reproduce.tables import WORKLOAD, memory_claims, quality_claims, runtime_claims, weight_memory_claim
from dcomc.reproduce.workbench import Workbench


def reproduce(bench: Workbench) -> Result:
    """Runtime and memory of weights; the columns of quality need runs of a real model."""
    rows = paper_table("table3")
    claims = [
        *runtime_claims(bench, "table3"),
        *memory_claims(bench, other_memory(rows)),
        *(weight_memory_claim(bench, row) for row in rows),
    ]
    setting = (
        "As table 2, and the weights of the decomposed layers in factors of the same rank. Decomposition times are "
        "those of table 2, and so is the memory of inputs but where the paper has another."
    )
    return Result("table3", [*claims, *quality_claims("table3")], setting, (), bench.configuration(workload=WORKLOAD))


def other_memory(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Those of the rows in which the memory of inputs is another than in table 2, for the same inputs in factors."""
    column = "input_memory_reduction_percent"
    return [row for row, other in zip(rows, paper_table("table2"), strict=True) if row[column] != other[column]]
