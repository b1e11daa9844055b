"""`dcom-decompose-weights`: put low-rank factors in the place of chosen sites' weights."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, f16
from xdsl.dialects.linalg.ops import MatmulOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dcomc.config import SiteOptions, check_choice
from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dcomc.statistics import Statistics
from dialects.dcom import SITES, Element, OutlierMatmulOp, TokenMatmulOp, WeightMatmulOp, WeightOp, WeightType
from passes._build import add, building, convert, element_of, structured
from passes._sites import Layers, check_sites, erase_dead, find_sites, read_config, starts_from_zero
from passes._weights import Globals, Parameters, Weight


@dataclass(frozen=True)
class DcomDecomposeWeightsPass(ModulePass):
    """Decompose the weights of chosen sites, W ~ U core V, as new weights that take the place of the old.

    Each chosen layer gets its own copy of the function it calls, unless it has one. Before:

        %w = linalg.transpose ins(%self_attn_q_proj_weight : tensor<576x576xf32>) …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %w : …) outs(%zero : …) -> …
        %q_outliers = dcom.outlier_matmul %outliers, %w : …

    and after:

        %weight = dcom.factored_weight %self_attn_q_proj_weight_u, %self_attn_q_proj_weight_core,
            %self_attn_q_proj_weight_v {of = "model.layers.10.self_attn.q_proj.weight", layer = 10 : i64, site = "qkv",
            method = "svd"} : tensor<576x64xf32>, tensor<64x64xf32>, tensor<64x576xf32>
            -> !dcom.weight<576x576, rank 64x64, f32>
        %q = dcom.weight_matmul %x, %weight {dcom.role = "q_proj"} : …
        %q_outliers = dcom.outlier_matmul %outliers, %weight : …

    The factors are globals without data, `model.layers.10.self_attn.q_proj.weight.u`, `.core` and `.v`; `dcomc compile`
    computes them and stores them beside the program. Where the model's weights are of half precision, and its products
    float32, U and V are stored in float16, as their columns and rows have length 1, and the core in float32. Run it
    after the passes that split and decompose activations, and before `dcom-preserve-decomposed`, which multiplies
    factors by factors into a new core (the paper's Eq. 5 and 7).
    """

    name = "dcom-decompose-weights"

    layers: tuple[int, ...]
    """Layers whose weights are decomposed, counted from 0."""
    sites: tuple[str, ...] = tuple(SITES)
    """Sites of each layer."""
    rank: int = 10
    """P and Q, both sides of a core; 0: only where `config` gives one."""
    method: str = "svd"
    """`svd`; `whitened`, the best for the activations of a text; or `tucker2`, in which those weights of a site that
    have the same shape share U and V, under the name of the first."""
    statistics: str | None = None
    """A file made by `dcomc statistics`, which `whitened` needs."""
    config: str | None = None
    """A TOML file whose `weight_rank` and `weight_method` say otherwise for single layers and sites
    (`dcomc.config.SiteConfig`)."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` for a layer, site, rank, method or statistics that do not fit the module."""
        sites = check_sites(self.sites)
        check_choice("weight_method", self.method)
        layers = Layers.of(op)
        weights = Globals.of(op)
        config = read_config(self.config)
        chosen = layers.check(self.layers)
        config.check(chosen, sites, weights=True)
        defaults = SiteOptions(weight_rank=self.rank, weight_method=self.method)
        options = {(layer, site): config.options(layer, site, defaults) for layer in chosen for site in sites}
        wanted = {place: option for place, option in options.items() if option.weight_rank}
        if not wanted:
            raise DcomError("no weight has a rank", hint="give the rank, for all or in the config")
        statistics = _read_statistics({option.weight_method for option in wanted.values()}, self.statistics)
        for layer in dict.fromkeys(layer for layer, _ in wanted):
            function = layers.own_function(layer)
            parameters = Parameters(function, layers.calls[layer], weights)
            for name in (site for of, site in wanted if of == layer):
                option = wanted[layer, name]
                matmuls = [matmul for site in find_sites(function, layer, name) for matmul in site.matmuls]
                found = list({weight.value: weight for weight in map(parameters.weight_of, matmuls)}.values())
                for stack in _stacks(found, together=option.weight_method == "tucker2"):
                    _check_rank(option.weight_rank, stack, config.place(layer, name, "weight_rank"))
                    if option.weight_method == "whitened" and statistics is not None:
                        statistics.of(layer, name, stack[0].value.type.get_shape()[0])
                    _decompose(parameters, stack, layer, name, option)
            parameters.finish()


def _decompose(parameters: Parameters, stack: Sequence[Weight], layer: int, site: str, options: SiteOptions) -> None:
    """Replace weights of one shape, which share U and V."""
    first = stack[0]
    (rows, cols), element = first.value.type.get_shape(), first.value.type.element_type
    unit = element if element_of(first.parameter) == element else f16
    rank, method = options.weight_rank, options.weight_method

    def factor(of: Weight, part: str, stored: Element, *shape: int) -> SSAValue:
        parameter = parameters.add(f"{of.name}.{part}", TensorType(stored, shape), of)
        with building(InsertPoint.at_start(of.parameter.block), of.parameter.location):
            return convert(parameter, element)

    u = factor(first, "u", unit, rows, rank)
    once = {weight.name: weight for weight in stack}  # one that is transposed several times has one core
    cores = {name: factor(weight, "core", element, rank, rank) for name, weight in once.items()}
    v = factor(first, "v", unit, rank, cols)
    for weight in stack:
        core = cores[weight.name]
        with building(InsertPoint.before(weight.transposition), weight.parameter.location):
            factored = WeightOp(u, core, v, of=weight.name, layer=layer, site=site, method=method).weight
        factored.name_hint = "weight"
        _replace(weight.value, factored)
        erase_dead(weight.value)
        if weight.parameter.first_use is None:
            parameters.drop(weight)


def _read_statistics(methods: Collection[str], path: str | None) -> Statistics | None:
    if ("whitened" in methods) != (path is not None):
        named = ", ".join(sorted(methods))
        what = "no statistics given" if path is None else f"statistics have no part in method {named}"
        raise DcomError(what, hint="method whitened needs a file made by `dcomc statistics`")
    return None if path is None else Statistics.read(path)


def _stacks(weights: Iterable[Weight], *, together: bool) -> list[list[Weight]]:
    """The weights one by one, or those of one shape together."""
    stacks: dict[object, list[Weight]] = {}
    for weight in weights:
        stacks.setdefault(weight.value.type if together else weight.name, []).append(weight)
    return list(stacks.values())


def _check_rank(rank: int, stack: Sequence[Weight], config: str | None) -> None:
    rows, cols = stack[0].value.type.get_shape()
    if not 1 <= rank <= min(rows, cols):
        raise DcomError(
            f"weight rank {rank} is not between 1 and {min(rows, cols)}",
            hint=f"{stack[0].name} is {rows} x {cols}",
            place=config or place_of(stack[0].transposition.location),
        )


def _replace(weight: SSAValue, factored: SSAValue[WeightType]) -> None:
    """Let what multiplies by `weight` multiply by its factors.

    Raises:
        DcomError: it is read by something else.
    """
    for use in list(weight.uses):
        match use.operation:
            case MatmulOp() as matmul if use.index == 1:
                _multiply(matmul, factored)
            case OutlierMatmulOp() | TokenMatmulOp() as exact:
                exact.operands[use.index] = factored
            case other:
                raise DcomError(
                    f"a weight to decompose is read by {other.name}",
                    hint="decompose weights before products of them",
                    place=place_of(other.location),
                )


def _multiply(matmul: MatmulOp, factored: SSAValue[WeightType]) -> None:
    initial, product = matmul.outputs[0], matmul.res[0]
    element = factored.type.element_type
    with building(InsertPoint.before(matmul), matmul.location):
        factors = WeightMatmulOp(matmul.inputs[0], factored)
        result: SSAValue = factors.result
        if not starts_from_zero(matmul):
            result = structured("sn,sn->sn", [result, initial], element, add)
    if result.type != product.type:
        what = f"a weight of {element} gives {product.type}"
        raise DcomError(what, hint="trace with --dtype f32 or f16", place=place_of(matmul.location))
    factors.attributes.update(matmul.attributes)
    result.name_hint = product.name_hint
    product.replace_all_uses_with(result)
    erase_dead(product)
