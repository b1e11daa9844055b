"""Looking into a model as it runs: the inputs of sites, and layers that are run in another form."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from xdsl.dialects.builtin import IntegerAttr, ModuleOp
from xdsl.dialects.func import CallOp
from xdsl.dialects.linalg.ops import MatmulOp
from xdsl.ir import Operation

from dcomc.evaluate import Array
from dialects.dcom import SITES
from passes._sites import Layers, find_sites
from runtime.executor import LAYER, Executor
from runtime.executor_arrays import Arrays, Value
from runtime.executor_block import Host, Kernel

See: TypeAlias = Callable[[int, str, Array], None]
"""Called with a layer, a site and its input [B*S, H]."""

RunLayer: TypeAlias = Callable[[Sequence[Value]], Sequence[Value]]
"""A decoder layer: takes its arguments, the first of which is [B, S, H], and returns its results."""


def layer_of(op: Operation) -> int | None:
    """The decoder layer that a call runs, if it runs one."""
    layer = op.attributes.get(LAYER)
    return layer.value.data if isinstance(layer, IntegerAttr) else None


class ProbedExecutor(Executor):
    """Runs a Level 0 module, and shows what its layers see.

    Attributes:
        see: gets the input of every site, if it is not None.
        start: a layer and its first argument; the layers before it do not run.
        instead: other forms of layers, by number.
        hidden: the first argument of each layer in the last run, by number.
    """

    def __init__(self, module: ModuleOp, weights: Mapping[str, Array], arrays: Arrays) -> None:
        super().__init__(module, weights, arrays=arrays)
        self.see: See | None = None
        self.start: tuple[int, Value] | None = None
        self.instead: Mapping[int, RunLayer] = {}
        self.hidden: dict[int, Value] = {}
        self._layer = 0
        self._sites = _site_readers(module)

    def build(self, op: Operation, host: Host) -> Kernel:
        """The kernel of `op`, which shows its first operand where that is a site's input."""
        kernel = super().build(op, host)
        site = self._sites.get(op)
        if site is None:
            return kernel

        def shown(*operands: Value) -> Sequence[Value]:
            if self.see is not None:
                self.see(self._layer, site, self.arrays.to_numpy(operands[0]))
            return kernel(*operands)

        return shown

    def call(self, op: CallOp, arguments: Sequence[Value]) -> Sequence[Value]:
        """What a `func.call` does, but for layers that are left out or replaced."""
        layer = layer_of(op)
        if layer is None:
            return super().call(op, arguments)
        if self.start is not None:
            if layer < self.start[0]:
                return arguments[:1]
            if layer == self.start[0]:
                arguments = (self.start[1], *arguments[1:])
        self._layer = layer
        self.hidden[layer] = arguments[0]
        if layer in self.instead:
            return self.instead[layer](arguments)
        return super().call(op, arguments)


def _site_readers(module: ModuleOp) -> dict[Operation, str]:
    """The first matmul on each input of each site, with the site."""
    layers = Layers.of(module)
    readers: dict[Operation, str] = {}
    for layer, (call, *_) in layers.calls.items():
        function = layers.functions[call.callee.root_reference.data]
        for name in SITES:
            for site in find_sites(function, layer, name):
                first: MatmulOp = site.matmuls[0]
                readers[first] = name
    return readers


def layer_runners(module: ModuleOp, executor: Executor) -> dict[int, RunLayer]:
    """Each layer of `module`, which `executor` runs, as a function of its arguments."""

    def runner(op: CallOp) -> RunLayer:
        return lambda arguments: executor.call(op, arguments)

    return {layer: runner(calls[0]) for layer, calls in Layers.of(module).calls.items()}
