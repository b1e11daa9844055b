"""Structured operations as loops in machine code: what `linalg.generic` means, compiled by LLVM.

A library of arrays computes a body one operation after another, and writes an array for each. Compiled, the body stays
in registers, and each operand is read once. The code is for one shape and one layout of the operands: LLVM knows every
stride, takes what does not change out of the inner loop, and makes vectors of the rest. The numbers are those of the
body, bit by bit, but for e^x, which each library has in its own last bits; and a sum or product over reduced loops may
be taken in another order.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, c_int64, c_void_p
from functools import cache
from typing import cast

from llvmlite import binding, ir
from xdsl.dialects import arith
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
)

from runtime.loops import Nest
from runtime.loops_scalar import CODE, INDEX, Object, has_code, llvm_type
from runtime.processor import processor_features

Code = Callable[..., None]
"""`code(start, stop, *addresses)` runs iterations of the shared loop; it takes where operands and results lie."""

_NAME = "nest"


def can_compile(nest: Nest) -> bool:
    """Whether all that a nest computes has code here."""
    simple = all(_is_simple(expr) for map_ in nest.maps for expr in map_.results)
    known = all(llvm_type(argument.type) is not None for argument in nest.body.args)
    inside = all(op.parent is nest.body or isinstance(op, arith.ConstantOp) for op in nest.operations)
    return bool(nest.parallel) and simple and known and inside and all(map(has_code, nest.operations))


def _is_simple(expr: AffineExpr) -> bool:
    """Whether an expression of loops has code here: it divides nothing that could be below zero."""
    match expr:
        case AffineDimExpr() | AffineConstantExpr():
            return True
        case AffineBinaryOpExpr(kind=AffineBinaryOpKind.Add | AffineBinaryOpKind.Mul):
            return _is_simple(expr.lhs) and _is_simple(expr.rhs)
        case AffineBinaryOpExpr(kind=AffineBinaryOpKind.FloorDiv | AffineBinaryOpKind.Mod):
            return isinstance(expr.lhs, AffineDimExpr) and isinstance(expr.rhs, AffineConstantExpr)
        case _:
            return False


def compiled(nest: Nest, strides: Sequence[Sequence[int]]) -> Code:
    """The code of a nest for these strides, in elements, of the operands that it reads and then of its results.

    Threads may run it at once, each some iterations, at least one, of `nest.shared_loop`.
    """
    return machine_code(_Writer(nest, strides).text())


@cache
def machine_code(text: str) -> Code:
    """The function of a module, by LLVM's usual passes, for this processor."""
    module = binding.parse_assembly(text)
    name, features = binding.get_host_cpu_name(), processor_features()
    machine = _target().create_target_machine(cpu=name, features=features, opt=3)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    pointers = [c_void_p] * (len(list(module.get_function(_NAME).arguments)) - 2)
    function = CFUNCTYPE(None, c_int64, c_int64, *pointers)(cast(int, engine.get_function_address(_NAME)))

    def run(*arguments: int, _engine: Object = engine) -> None:
        """The code lies in the engine, and stays as long as this does."""
        function(*arguments)

    return run


@cache
def _target() -> Object:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()


class _Writer:
    """Writes the function of one nest."""

    def __init__(self, nest: Nest, strides: Sequence[Sequence[int]]) -> None:
        self._nest, self._strides = nest, strides
        pointed = [*nest.read, *nest.outputs]
        self._maps = [nest.maps[position] for position in pointed]
        self._types = [llvm_type(nest.body.args[position].type) for position in pointed]
        self._loops: dict[int, Object] = {}
        arguments = [INDEX, INDEX, *[ir.PointerType()] * len(pointed)]
        self._function: Object = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), arguments), _NAME)
        for pointer in self._function.args[2:]:
            pointer.add_attribute("noalias")
        self._builder: Object = ir.IRBuilder(self._function.append_basic_block())

    def text(self) -> str:
        nest, builder = self._nest, self._builder
        with self._each(nest.parallel):
            results = self._fold() if nest.reduced else self._point(self._loaded(nest.read))
            for number, result in enumerate(results, len(nest.read)):
                builder.store(result, self._place(number))
        builder.ret_void()
        return str(builder.module)

    def _fold(self) -> list[Object]:
        """The outputs of one point of the parallel loops."""
        nest, builder = self._nest, self._builder
        totals: dict[SSAValue, Object] = {}
        for argument, value in self._loaded(nest.outputs).items():
            with builder.goto_entry_block():
                totals[argument] = builder.alloca(value.type)
            builder.store(value, totals[argument])

        def so_far() -> dict[SSAValue, Object]:
            return {argument: builder.load(total, typ=total.allocated_type) for argument, total in totals.items()}

        with self._each(nest.reduced):
            inputs = [position for position in nest.read if position not in nest.outputs]
            results = self._point(self._loaded(inputs) | so_far())
            for total, result in zip(totals.values(), results, strict=True):
                builder.store(result, total)
        return list(so_far().values())

    def _point(self, values: dict[SSAValue, Object]) -> list[Object]:
        """What the body yields, of the arguments that it reads."""
        for op in self._nest.operations:
            if isinstance(op, linalg.IndexOp):
                values[op.result] = self._loops[op.dim.value.data]
            elif not isinstance(op, linalg.YieldOp):
                result = CODE[type(op)](self._builder, op, [values[operand] for operand in op.operands])
                values[op.results[0]] = result
                folds = self._nest.reduced and op.results[0] in self._nest.yielded
                if folds and isinstance(op, arith.AddfOp | arith.MulfOp):
                    result.flags = ["reassoc", "nsz"]
        return [values[value] for value in self._nest.yielded]

    @contextmanager
    def _each(self, loops: Sequence[int]) -> Generator[None]:
        """What is written inside runs for each iteration of all these loops."""
        builder = self._builder
        ends: list[Object] = []
        for loop in loops:
            shared = loop == self._nest.shared_loop
            start, stop = self._function.args[:2] if shared else (INDEX(0), INDEX(self._nest.space[loop]))
            before, inside = builder.block, builder.append_basic_block()
            builder.branch(inside)
            builder.position_at_end(inside)
            index = self._loops[loop] = builder.phi(INDEX)
            index.add_incoming(start, before)
            ends.append((index, stop, inside))
        yield
        for index, stop, inside in reversed(ends):
            following = builder.add(index, INDEX(1), flags=["nuw", "nsw"])
            index.add_incoming(following, builder.block)
            after = builder.append_basic_block()
            builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
            builder.position_at_end(after)

    def _loaded(self, positions: Sequence[int]) -> dict[SSAValue, Object]:
        """The elements of operands, by the arguments of the body that they are."""
        numbers = {position: self._nest.read.index(position) for position in positions}
        return {
            self._nest.body.args[position]: self._builder.load(self._place(number), typ=self._types[number])
            for position, number in numbers.items()
        }

    def _place(self, number: int) -> Object:
        """Where the element of an operand, or of a result, lies."""
        offset = INDEX(0)
        for expr, stride in zip(self._maps[number].results, self._strides[number], strict=True):
            if stride:
                offset = self._builder.add(offset, self._builder.mul(self._index(expr), INDEX(stride)))
        pointer = self._function.args[2 + number]
        return self._builder.gep(pointer, [offset], source_etype=self._types[number])

    def _index(self, expr: AffineExpr) -> Object:
        if isinstance(expr, AffineDimExpr):
            return self._loops[expr.position]
        if isinstance(expr, AffineConstantExpr):
            return INDEX(expr.value)
        assert isinstance(expr, AffineBinaryOpExpr)
        left, right = self._index(expr.lhs), self._index(expr.rhs)
        match expr.kind:
            case AffineBinaryOpKind.Add:
                return self._builder.add(left, right)
            case AffineBinaryOpKind.Mul:
                return self._builder.mul(left, right)
            case AffineBinaryOpKind.FloorDiv:
                return self._builder.udiv(left, right)
            case _:
                return self._builder.urem(left, right)
