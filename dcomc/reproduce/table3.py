"""Table 3: decomposed activations and weights."""

from dcomc.reproduce.claims import Result
from dcomc.reproduce.tables import missing_claims
from dcomc.reproduce.workbench import Workbench

_COLUMNS = (
    "model_runtime_ratio",
    "weight_memory_reduction_percent",
    "outlier_percent",
    "arc_easy_accuracy_percent",
    "wikitext2_perplexity",
)


def reproduce(bench: Workbench) -> Result:
    """Its decomposition times are those of table 2; the rest needs weights in factors."""
    why = "it needs Llama-2-7B's weights, to put them in factors"
    return Result("table3", missing_claims("table3", _COLUMNS, why), "Nothing was run.", (), bench.configuration)
