"""The compiled loops of `runtime.loops_llvm` on torch's tensors, on all cores."""

import torch
from xdsl.dialects import builtin
from xdsl.ir import Attribute

from runtime.executor_arrays import Loops
from runtime.loops import Nest
from runtime.shares import for_shares

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


def compiled_loops(nest: Nest) -> Loops | None:
    """The code of a nest, made for each layout of its operands when it is met first; None where it has none."""
    from runtime import loops_llvm  # and LLVM, only where a module is run

    if not loops_llvm.can_compile(nest):
        return None
    kinds = [_DTYPES[argument.type] for argument in nest.body.args]
    size = nest.space[nest.shared_loop]
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
        threads = torch.get_num_threads()
        # Even one turn of the shared loop is long: the nest is large.
        for_shares(lambda _, start, stop: code(start, stop, *addresses), size, min(size, 4 * threads), threads)
        return results

    return loops
