"""The compiled loops of `runtime.loops_llvm` on torch's tensors, on all cores."""

from collections.abc import Callable, Iterable

import torch
from xdsl.dialects import builtin
from xdsl.ir import Attribute

from runtime.executor_arrays import Loops
from runtime.loops import Nest

Tensor = torch.Tensor

_DTYPES: dict[Attribute, torch.dtype] = {
    builtin.bf16: torch.bfloat16,
    builtin.f32: torch.float32,
    builtin.f64: torch.float64,
    builtin.i1: torch.bool,
    builtin.i32: torch.int32,
    builtin.i64: torch.int64,
    builtin.IndexType(): torch.int64,
}

_SHARES = 4
"""Parts of the shared loop for each thread: one that was held up leaves some to the others."""


def compiled_loops(nest: Nest, run: Callable[[Callable[[int], None], Iterable[int]], None]) -> Loops | None:
    """The code of a nest, made for each layout of its operands when it is met first; None where it has none.

    Args:
        run: calls a function with each of some numbers, on all cores.
    """
    from runtime import loops_llvm  # and LLVM, only where a module is run

    if not loops_llvm.can_compile(nest):
        return None
    kinds = [_DTYPES[argument.type] for argument in nest.body.args]
    size = nest.space[nest.shared_loop]
    step = -(-size // (_SHARES * torch.get_num_threads()))
    codes: dict[tuple[tuple[int, ...], ...], loops_llvm.Code] = {}

    def fits(x: Tensor, position: int) -> bool:
        """Whether an operand is as the code takes it to be."""
        plain = x.device.type == "cpu" and not x.requires_grad
        return plain and x.dtype == kinds[position] and tuple(x.shape) == nest.shapes[position]

    def loops(*operands: Tensor) -> list[Tensor] | None:
        if not all(fits(operands[position], position) for position in nest.read):
            return None
        results = [torch.empty(nest.shapes[position], dtype=kinds[position]) for position in nest.outputs]
        tensors = [*(operands[position] for position in nest.read), *results]
        strides = tuple(x.stride() for x in tensors)
        code = codes.get(strides)
        if code is None:
            code = codes[strides] = loops_llvm.compiled(nest, strides)
        addresses = [x.data_ptr() for x in tensors]
        run(lambda start: code(start, min(start + step, size), *addresses), range(0, size, step))
        return results

    return loops
