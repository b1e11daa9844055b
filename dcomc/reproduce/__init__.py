"""The paper's claims against what this project computes: figures, tables and equations, each with a verdict."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcomc.reproduce.claims import Result
    from dcomc.reproduce.workbench import Workbench

WHAT: Mapping[str, str] = {
    "equations": "Eq. 8 and 10 against counts from the IR; 9, 11 and 12 against sizes of products and factors",
    "figure2": "SVD algorithms against time and rank, on this CPU",
    "figure3": "what Lanczos bidiagonalisation takes on a GPU, by operation",
    "figure4": "latency of a layer against the length of prompts: dense, decomposed on a GPU, with D-com",
    "figure11": "latency of a layer and of the model",
    "figure12": "decomposition against the expansion factor",
    "figure13": "area and power",
    "table2": "decomposed activations: decomposition times and runtime by layers and rank",
    "table3": "decomposed activations and weights",
}
"""What can be reproduced, each by a function `reproduce` of a module of this package."""

SECONDS: Mapping[str, int] = {
    "equations": 6,
    "figure2": 50,
    "figure3": 2,
    "figure4": 50,
    "figure11": 20,
    "figure12": 15,
    "figure13": 2,
    "table2": 80,
    "table3": 60,
}
"""About what each takes of one processor, as measured on a server's."""


def reproduction(name: str) -> "Callable[[Workbench], Result]":
    """The function that reproduces a figure, a table, or the equations."""
    function: Callable[[Workbench], Result] = import_module(f"dcomc.reproduce.{name}").reproduce
    return function
