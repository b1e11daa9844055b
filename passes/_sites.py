"""The layers and sites of a Level 0 module: which function a layer calls, and which matmuls read a site's input."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    Float16Type,
    Float32Type,
    FloatAttr,
    FusedLoc,
    IntegerAttr,
    LocationAttr,
    ModuleOp,
    NameLoc,
    NoneAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
)
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.dialects.linalg.abstract_ops import LinalgStructuredOperation
from xdsl.dialects.linalg.ops import FillOp, GenericOp, MatmulOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.traits import NoMemoryEffect
from xdsl.utils.hints import isa

from dcomc.config import SiteConfig
from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects import dcom
from dialects.dcom import SITES, Element, unknown_site

T = TypeVar("T")

NOT_TRACED = "give a module made by `dcomc trace`"

FUSED = {"qkv": "qkv_proj", "gate_up": "gate_up_proj"}
"""The role of one matmul that does the work of all of a site's, in models that store their weights joined."""

ROLES = {site: (*roles, FUSED[site]) if site in FUSED else roles for site, roles in SITES.items()}
"""All roles of matmuls that read a site's input; a model has some of them."""


def _integer(attribute: Attribute | None) -> int | None:
    return attribute.value.data if isa(attribute, IntegerAttr) else None


def module_size(module: ModuleOp, name: str) -> int:
    """The integer attribute `dcom.<name>` of a module: `batch` or `seq_len`.

    Raises:
        DcomError: the module has none.
    """
    value = _integer(module.attributes.get(f"dcom.{name}"))
    if value is None or value < 1:
        raise DcomError(f"the module has no attribute dcom.{name}", hint=NOT_TRACED)
    return value


def chosen(names: Iterable[T], option: str) -> tuple[T, ...]:
    """The values of a list option, each once, in order; raises `DcomError` where there are none."""
    unique = tuple(dict.fromkeys(names))
    if not unique:
        raise DcomError(f"no {option} given", hint=f"write {option}=… with at least one")
    return unique


def check_sites(sites: Iterable[str]) -> tuple[str, ...]:
    """`sites`, each once, in the order of a layer; raises `DcomError` for one that is not in `SITES`."""
    unique = chosen(sites, "sites")
    for site in unique:
        if site not in SITES:
            raise DcomError(f"unknown site '{site}'", hint=unknown_site(site))
    return tuple(site for site in SITES if site in unique)


def check_reuse(reuse: Iterable[str], sites: Sequence[str]) -> tuple[str, ...]:
    """`reuse`, the sites that project on the basis of the first of `sites`.

    Raises:
        DcomError: one of them is not in `sites`, or is the first of them.
    """
    again = check_sites(reuse) if reuse else ()
    for site in again:
        if site not in sites:
            raise DcomError(f"site {site} is in reuse, but not in sites", hint=f"sites are {', '.join(sites)}")
        if site == sites[0]:
            raise DcomError(
                f"site {site} cannot reuse a basis: it is the first site of a layer", hint="decompose one before it"
            )
    return again


def read_config(path: str | None) -> SiteConfig:
    """The options by layer and site in a file; those that say nothing where there is none."""
    return SiteConfig() if path is None else SiteConfig.read(path)


@dataclass(frozen=True)
class Layers:
    """The layers of a module, by the calls that carry `dcom.layer`."""

    calls: dict[int, list[CallOp]]
    functions: dict[str, FuncOp]
    uses: Counter[str]

    @staticmethod
    def of(module: ModuleOp) -> "Layers":
        """Find the layer calls; raises `DcomError` where there is none."""
        functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
        calls: dict[int, list[CallOp]] = {}
        uses: Counter[str] = Counter()
        for function in functions.values():
            for call in function.walk():
                if not isinstance(call, CallOp):
                    continue
                uses[call.callee.root_reference.data] += 1
                layer = _integer(call.attributes.get("dcom.layer"))
                if layer is not None:
                    calls.setdefault(layer, []).append(call)
        if not calls:
            raise DcomError("the module has no call with a dcom.layer attribute", hint=NOT_TRACED)
        return Layers(calls, functions, uses)

    def check(self, layers: Iterable[int]) -> tuple[int, ...]:
        """`layers`, each once, in ascending order; raises `DcomError` for one that the model has not."""
        unique = chosen(sorted(layers), "layers")
        for layer in unique:
            if layer not in self.calls:
                first, last = min(self.calls), max(self.calls)
                raise DcomError(f"layer {layer} does not exist", hint=f"the model has layers {first} to {last}")
        return unique

    def own_function(self, layer: int) -> FuncOp:
        """A function that only `layer` calls, named `@decoder_layer_<layer>`: a clone where others call it too.

        Raises:
            DcomError: the callee is not defined in the module.
        """
        calls = self.calls[layer]
        name = calls[0].callee.root_reference.data
        original = self.functions.get(name)
        if original is None or original.is_declaration:
            what = f"layer {layer} calls @{name}, which has no body in the module"
            raise DcomError(what, hint=NOT_TRACED, place=place_of(calls[0].location))
        wanted = f"decoder_layer_{layer}"
        if name == wanted and self.uses[name] == len(calls):
            return original
        own = wanted
        while own in self.functions:
            own += "_0"
        clone = original.clone()
        _relocate(clone, layer)
        clone.properties["sym_name"] = StringAttr(own)
        clone.properties["sym_visibility"] = StringAttr("private")
        last = original
        for earlier in sorted(self.calls):
            if earlier < layer:
                last = self.functions.get(f"decoder_layer_{earlier}", last)
        Rewriter.insert_op(clone, InsertPoint.after(last))
        self.functions[own] = clone
        for call in calls:
            self.uses[call.callee.root_reference.data] -= 1
            self.uses[own] += 1
            call.properties["callee"] = SymbolRefAttr(own)
        if not self.uses[name] and original.sym_visibility == StringAttr("private"):
            Rewriter.erase_op(original)
            del self.functions[name]
        return clone


def _relocate(function: FuncOp, layer: int) -> None:
    """Name the layer in locations that stood for all: `model.layers.*.mlp` becomes `model.layers.10.mlp`."""
    known: dict[LocationAttr, LocationAttr] = {}

    def of_layer(location: LocationAttr) -> LocationAttr:
        if location not in known:
            known[location] = location
            if isinstance(location, NameLoc):
                name = re.sub(r"\.\*(?=\.|$)", f".{layer}", location.desc.data)
                known[location] = NameLoc(StringAttr(name), location.location)
        return known[location]

    for op in function.walk():
        op.location = of_layer(op.location)
        for region in op.regions:
            for block in region.blocks:
                for argument in block.args:
                    argument.location = of_layer(argument.location)


@dataclass(frozen=True)
class Site:
    """Matmuls of one site that read the same input."""

    layer: int
    name: str
    """A key of `SITES`."""
    input: SSAValue[TensorType[Element]]
    matmuls: Sequence[MatmulOp]

    @property
    def location(self) -> LocationAttr:
        """The location of the matmuls, fused where they have several."""
        locations = list(dict.fromkeys(matmul.location for matmul in self.matmuls))
        return locations[0] if len(locations) == 1 else FusedLoc(ArrayAttr(locations), NoneAttr())

    def insert_point(self) -> InsertPoint:
        """Directly after the input, so that what stands there reaches all the matmuls."""
        owner = self.input.owner
        return InsertPoint.after(owner) if isinstance(owner, Operation) else InsertPoint.at_start(owner)

    def check_dense(self, hint: str) -> None:
        """Raise `DcomError` where the input has been decomposed; `hint` says what to do about it."""
        if isinstance(self.input.owner, dcom.ReconstructOp):
            what = f"site {self.name} of layer {self.layer} is already decomposed"
            raise DcomError(what, hint=hint, place=place_of(self.location))

    def replace_input(self, value: SSAValue) -> None:
        """Let the matmuls read `value`."""
        for matmul in self.matmuls:
            matmul.operands[0] = value


def find_sites(function: FuncOp, layer: int, site: str) -> list[Site]:
    """The matmuls of `site` in a layer's function, grouped by their input: one group for q, k and v.

    A layer need not have all roles of a site: joined weights have the fused one, and a feed-forward network without a
    gate has one matmul on the input of `gate_up`.

    Raises:
        DcomError: no role of the site has a matmul, or its input is no matrix of float16 or float32.
    """
    matmuls: dict[str, list[MatmulOp]] = {role: [] for role in ROLES[site]}
    for op in function.body.ops:
        role = op.attributes.get("dcom.role")
        if isinstance(role, StringAttr) and role.data in matmuls:
            if isinstance(op, dcom.MatmulOp | dcom.WeightMatmulOp):
                hint = "decompose its activations, then its weights, each once"
                what = f"site {site} of layer {layer} is already decomposed"
                raise DcomError(what, hint=hint, place=place_of(op.location))
            if isinstance(op, MatmulOp):
                matmuls[role.data].append(op)
    if not any(matmuls.values()):
        named = " or ".join(f'"{role}"' for role in matmuls)
        what = f"layer {layer} has no linalg.matmul with dcom.role {named}"
        raise DcomError(what, hint=f"choose other layers or sites, or {NOT_TRACED}", place=place_of(function.location))
    groups: dict[SSAValue, list[MatmulOp]] = {}
    for matmul in chain.from_iterable(matmuls.values()):
        groups.setdefault(matmul.inputs[0], []).append(matmul)
    sites: list[Site] = []
    for value, readers in groups.items():
        if not isa(value, SSAValue[TensorType[Element]]) or len(value.type.get_shape()) != 2:
            what = f"the input of site {site} of layer {layer} is {value.type}"
            raise DcomError(what, hint=NOT_TRACED, place=place_of(readers[0].location))
        sites.append(Site(layer, site, value, readers))
    return sites


def starts_from_zero(matmul: MatmulOp | GenericOp) -> bool:
    """Whether a matmul, or another contraction, adds its products to a tensor filled with zero."""
    fill = matmul.outputs[0].owner
    if not isinstance(fill, FillOp):
        return False
    constant = fill.inputs[0].owner
    return isinstance(constant, arith.ConstantOp) and isa(constant.value, FloatAttr) and constant.value.value.data == 0


def converts(op: Operation) -> bool:
    """Whether an operation does nothing but change the element type of a tensor, to float16, bfloat16 or float32."""
    if not isinstance(op, GenericOp) or len(op.inputs) != 1 or len(op.results) != 1:
        return False
    first, end = op.body.block.first_op, op.body.block.last_op
    return (
        isinstance(first, arith.TruncFOp | arith.ExtFOp)
        and first.input is op.body.block.args[0]
        and end is not None
        and tuple(end.operands) == (first.result,)
        and isa(op.results[0].type, TensorType[BFloat16Type | Float16Type | Float32Type])
        and len({attribute.data for attribute in op.get_indexing_maps()}) == 1
    )


def erase_dead(value: SSAValue) -> None:
    """Erase what computes `value`, and what only that computation needed, as far as nothing uses it."""
    pending = [value]
    while pending:
        owner = pending.pop().owner
        if (
            isinstance(owner, Operation)
            and owner.parent
            and _removable(owner)
            and not any(r.uses for r in owner.results)
        ):
            pending += owner.operands
            Rewriter.erase_op(owner)


def _removable(op: Operation) -> bool:
    """Whether an operation has no effect but its results (xDSL does not say so of its linalg operations)."""
    return op.has_trait(NoMemoryEffect) or isinstance(op, LinalgStructuredOperation)
