"""Programs run on the host twice: as they are, and as `dcom-legalize` lowers them."""

from typing import Any

import numpy as np

from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import run_passes
from passes import make_passes
from runtime.executor import Executor

Array = np.ndarray[Any, Any]


def text_both_ways(program: str, *inputs: Array) -> list[tuple[Array, Array]]:
    """Each result of a program's `@main` on the host: as dcom operations, and legalised."""
    context = make_context()
    module = parse_module(program, "program", context)
    before = Executor(module, {}).run("main", *inputs)
    run_passes(context, module, make_passes("dcom-legalize"))
    text = print_module(module, locations=False)
    assert "= dcom." not in text and "!dcom" not in text
    # From text again: the legalised module is complete on its own.
    after = Executor(parse_module(text, "legalised"), {}).run("main", *inputs)
    return [(np.asarray(a), np.asarray(b)) for a, b in zip(before, after, strict=True)]
