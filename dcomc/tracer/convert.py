"""Our graph of an exported program: weights by name, constants evaluated, each node with its source."""

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import nn
from torch.utils import _pytree as pytree

from dcomc.tracer.graph import CONSTANT, INPUT, WEIGHT, WHERE_ABOVE, Graph, Node, Source, reachable

_DTYPE_NAMES = {
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "i1",
}
_PACKAGES = Path(transformers.__file__).parent.parent
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_LARGEST_CONSTANT = 1 << 16
_IN_PLACE = re.compile(r"aten\.\w*[a-z0-9]_\.\w+")
_SHARED = " of what others may see"
"""Ends the name of an operator that changes in place what views of it show, too, which is not in their arguments."""
_FACTORIES = ("aten.arange", "aten.full", "aten.ones", "aten.zeros", "aten.scalar_tensor")


def convert(program: torch.export.ExportedProgram, model: nn.Module, buffers: Mapping[str, torch.Tensor]) -> Graph:
    """The graph of the first output of `program`.

    Args:
        model: what was exported.
        buffers: the values of its buffers that no checkpoint holds. What depends on them alone, or on no tensor, is
            evaluated; the rest of the graph gets constants of at most 65,536 numbers.
    """
    return _Converter(program, model, buffers).run()


@dataclass
class _Converter:
    program: torch.export.ExportedProgram
    model: nn.Module
    buffers: Mapping[str, torch.Tensor]
    nodes: list[Node] = field(default_factory=list[Node])
    converted: dict[torch.fx.Node, Node] = field(default_factory=dict[torch.fx.Node, Node])
    known: dict[torch.fx.Node, torch.Tensor] = field(default_factory=dict[torch.fx.Node, torch.Tensor])

    def run(self) -> Graph:
        self._placeholders()
        graph = self.program.graph
        for node in graph.nodes:
            if node.op == "output" or node.op == "placeholder":
                continue
            value = self._evaluate(node)
            if value is not None:
                self.known[node] = value
            else:
                call = _piece(node) or _join(node) or _choice(node) or _shared_change(node)
                self._add(node, call or (str(node.target), node.args))
        logits = cast(torch.fx.Node, cast(tuple[object, ...], graph.output_node().args[0])[0])
        output = self.converted[logits]
        changes = (node for node in self.nodes if node.op.endswith(_SHARED))
        return Graph(reachable(self.nodes, output, *changes), output)

    def _placeholders(self) -> None:
        """Inputs, weights (tied ones become one), and buffers whose values are known."""
        names: dict[int, str] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), name)
        signature = self.program.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        weights: dict[str, Node] = {}
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            constant = self.program.constants.get(signature.inputs_to_lifted_tensor_constants.get(node.name, ""))
            if type(constant) is torch.Tensor and not constant.is_meta:
                self.known[node] = constant
            elif (target := stored.get(node.name)) is None:
                self.converted[node] = self._append(node, node.name, INPUT, ())
            elif target in self.buffers:
                self.known[node] = self.buffers[target]
            else:
                name = names.get(id(_lookup(self.model, target)), target)
                if name not in weights:
                    weights[name] = self._append(node, name, WEIGHT, ())
                self.converted[node] = weights[name]

    def _evaluate(self, node: torch.fx.Node) -> torch.Tensor | None:
        """The value of a node that depends on known tensors alone."""
        value, target = node.meta.get("val"), node.target
        if not isinstance(value, torch.Tensor) or value.numel() > _LARGEST_CONSTANT:
            return None
        operands = node.all_input_nodes
        name = str(target)
        if (
            not callable(target)
            or not name.startswith("aten.")
            or any(operand not in self.known for operand in operands)
        ):
            return None
        if not operands and not name.startswith(_FACTORIES):
            return None
        options = {name: option for name, option in node.kwargs.items() if name not in ("device", "pin_memory")}

        def of(argument: object) -> object:
            if isinstance(argument, torch.device):
                return torch.device("cpu")
            return self.known[argument] if isinstance(argument, torch.fx.Node) else argument

        args, named = cast(tuple[Any, Any], pytree.tree_map(of, (node.args, options)))
        return cast(torch.Tensor, target(*args, **named))

    def _add(self, node: torch.fx.Node, call: tuple[str, tuple[object, ...]]) -> None:
        op, arguments = call
        args = tuple(self._argument(argument, node) for argument in arguments)
        options = tuple((key, self._argument(argument, node)) for key, argument in sorted(node.kwargs.items()))
        self.converted[node] = self._append(node, node.name, op, args, options)

    def _append(
        self,
        node: torch.fx.Node,
        name: str,
        op: str,
        args: tuple[object, ...],
        options: tuple[tuple[str, object], ...] = (),
        known: torch.Tensor | None = None,
    ) -> Node:
        value = node.meta.get("val") if known is None else known
        tensor = isinstance(value, torch.Tensor)
        shape = tuple(value.shape) if tensor else ()
        dtype = _DTYPE_NAMES.get(value.dtype, str(value.dtype)) if tensor else "none"
        source = _source(node, name.rpartition(".")[0] if op == WEIGHT else None)
        self.nodes.append(Node(name, op, args, options, shape, dtype, source))
        return self.nodes[-1]

    def _argument(self, value: object, user: torch.fx.Node) -> object:
        if isinstance(value, torch.fx.Node):
            return self._constant(value, user) if value in self.known else self.converted[value]
        if isinstance(value, list | tuple):
            return tuple(self._argument(item, user) for item in cast(list[object], value))
        if isinstance(value, torch.dtype):
            return _DTYPE_NAMES.get(value, str(value))
        return value if isinstance(value, int | float | str | bool | None) else str(value)

    def _constant(self, node: torch.fx.Node, user: torch.fx.Node) -> object:
        """A known tensor where it is used: a number if it is a scalar, else a node with the source of the user."""
        value = self.known[node]
        if value.ndim == 0:
            return value.item()
        return self._append(
            user, f"{user.name}_{node.name}", CONSTANT, tuple(cast(list[object], value.flatten().tolist())), (), value
        )


def _piece(node: torch.fx.Node) -> tuple[str, tuple[object, ...]] | None:
    """The slice that an item of a tensor cut into pieces is, as an operator with its arguments."""
    if node.target is not operator.getitem:
        return None
    pieces, position = cast(tuple[torch.fx.Node, int], node.args)
    if str(pieces.target) not in ("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default"):
        return None
    x, _, axis = (*pieces.args, 0)[:3]
    sizes = [piece.shape[cast(int, axis)] for piece in cast(list[torch.Tensor], pieces.meta["val"])]
    start = sum(sizes[:position])
    return "aten.slice.Tensor", (x, axis, start, start + sizes[position])


def _join(node: torch.fx.Node) -> tuple[str, tuple[object, ...]] | None:
    """A concatenation without its empty parts, of which one at least is left out; None where there are none."""
    if str(node.target) != "aten.cat.default":
        return None
    parts, *axis = cast(tuple[list[torch.fx.Node], Any], node.args)
    full = [part for part in parts if part.meta["val"].numel()]
    return ("aten.cat.default", (full, *axis)) if 0 < len(full) < len(parts) else None


def _choice(node: torch.fx.Node) -> tuple[str, tuple[object, ...]] | None:
    """A choice by whether a tensor exceeds a number, as one operator; None for any other condition."""
    if str(node.target) != "aten.where.self":
        return None
    condition, yes, no = cast(tuple[torch.fx.Node, object, object], node.args)
    return (WHERE_ABOVE, (*condition.args, yes, no)) if str(condition.target) == "aten.gt.Scalar" else None


def _shared_change(node: torch.fx.Node) -> tuple[str, tuple[object, ...]] | None:
    """A change in place of anything but a projection that has no other use; None for any other operator."""
    if not _IN_PLACE.fullmatch(str(node.target)):
        return None
    changed = node.all_input_nodes[0]
    alone = str(changed.target) == "aten.linear.default" and len(changed.users) == 1
    return None if alone else (f"{node.target}{_SHARED}", node.args)


def _lookup(model: nn.Module, name: str) -> torch.Tensor | None:
    owner, _, attribute = name.rpartition(".")
    value = getattr(model.get_submodule(owner), attribute)
    return value if isinstance(value, torch.Tensor) else None


def _source(node: torch.fx.Node, module: str | None) -> Source:
    """The innermost module path, and the innermost line of the model's own file (or of transformers, or of torch)."""
    if module is None:
        stack = cast(Mapping[str, tuple[str, object]], node.meta.get("nn_module_stack") or {})
        module = list(stack.values())[-1][0] if stack else node.name
    for file, line in _frames(node.meta.get("stack_trace") or ""):
        return Source(module, file, line)
    return Source(module, "", 0)


def _frames(trace: str) -> Iterator[tuple[str, int]]:
    """The places of a stack trace in installed packages, as package-relative names, the best first."""
    frames = [(Path(match["file"]), int(match["line"])) for match in _FRAME.finditer(trace)]
    inside = [(file.relative_to(_PACKAGES), line) for file, line in frames if file.is_relative_to(_PACKAGES)]
    ours = [frame for frame in inside if frame[0].parts[0] == "transformers"]
    models = [frame for frame in ours if frame[0].parts[1] == "models"]
    for frames in (models, ours, inside):
        if frames:
            yield frames[-1][0].as_posix(), frames[-1][1]
