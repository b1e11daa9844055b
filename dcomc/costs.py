"""What each layer and site costs, dense and decomposed, counted from the operations of a module.

A floating-point operation is one multiplication or one addition. Bytes are those of an operation's operands and
results, each counted once an operation (a decomposition reads its input twice a step). Memory is what holds a site's
input.
"""

from dataclasses import dataclass, field
from math import prod

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, IntegerType, ModuleOp, StringAttr, TensorType
from xdsl.dialects.linalg.ops import GenericOp, TransposeOp
from xdsl.dialects.linalg.ops import MatmulOp as LinalgMatmulOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr
from xdsl.utils.hints import isa

from dialects import dcom
from dialects.dcom import FactoredType, OutliersType, TokensType, WeightType
from passes._sites import ROLES, SITES, Layers, converts

_INDEX_BYTES = 8


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and bytes read and written."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True)
class Product:
    """A product of the site's input [rows, D] with a weight [D, W]."""

    role: str
    rows: int
    depth: int
    """D, the channels of the input."""
    width: int
    """W, the channels of the output."""
    bytes_each: int
    """Bytes of an element."""
    weight: WeightType | None = None
    """Where the weight is in factors, what they are."""

    @property
    def dense(self) -> Work:
        """The work of `linalg.matmul`."""
        elements = self.rows * self.depth + self.depth * self.width + self.rows * self.width
        return Work(2 * self.rows * self.depth * self.width, elements * self.bytes_each)


@dataclass
class SiteCost:
    """The costs of one site of one layer."""

    layer: int
    site: str
    products: list[Product] = field(default_factory=list[Product])
    work: Work = Work()
    """The work that now stands for the products: factored and exact parts, reconstruction, or the dense product itself.
    """
    preserved: Work = Work()
    """The part of `work` that is products which stay decomposed (V* = V W, Eq. 6)."""
    decomposition: Work = Work()
    """Finding the factors and choosing what stays exact."""
    factors: FactoredType | None = None
    """The type of the input's factors; None where the site is dense."""
    memory: int = 0
    """Bytes of the input in factors, with its exact channels and tokens."""
    weight_factors: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])
    """Bytes of the factors of weights, of which one may serve several weights."""

    @property
    def dense(self) -> Work:
        """The work of the site without decomposition."""
        return sum((product.dense for product in self.products), Work())

    @property
    def dense_weights(self) -> int:
        """Bytes of the site's weights without decomposition."""
        return sum(product.depth * product.width * product.bytes_each for product in self.products)

    @property
    def weights(self) -> int:
        """Bytes of the site's weights, dense ones and factors."""
        dense = (p.depth * p.width * p.bytes_each for p in self.products if p.weight is None)
        return sum(dense) + sum(self.weight_factors.values())

    @property
    def dense_memory(self) -> int:
        """Bytes of the dense input, which all products of the site share."""
        first = self.products[0]
        return first.rows * first.depth * first.bytes_each


def count_costs(module: ModuleOp) -> list[SiteCost]:
    """The costs of every site of every layer, in order of layers; raises `DcomError` where no call has a layer."""
    costs: list[SiteCost] = []
    layers = Layers.of(module)
    for layer, calls in sorted(layers.calls.items()):
        sites = {site: SiteCost(layer, site) for site in SITES}
        for call in calls:
            function = layers.functions.get(call.callee.root_reference.data)
            for op in function.walk() if function is not None else ():
                site = _site(op)
                if site is not None:
                    _count(op, sites[site])
        costs += [cost for cost in sites.values() if cost.products]
    return costs


def work_of(op: Operation) -> Work:
    """The work of one operation of a site: `linalg.matmul`, or one of the dcom dialect.

    A change of element type is none: the kernel that makes or reads the tensor does it on the way. Lanczos counts its
    products with the matrix, its orthogonalisation, and the truncation to the rank.

    Raises:
        ValueError: an operation of the dcom dialect that is not named here.
    """
    moved = sum(bytes_of(value.type) for value in (*op.operands, *op.results))
    match op:
        case LinalgMatmulOp():
            rows, depth = _shape(op.inputs[0])
            width = _shape(op.inputs[1])[1]
            return Work(2 * rows * depth * width, sum(map(bytes_of, (*op.inputs.types, *op.res.types))))
        case dcom.MatmulOp():
            return _preserved(op)
        case dcom.ScaleOp():
            type_ = op.input.type
            matrices, rows, _ = type_.blocks
            scaled = matrices * rows * type_.rank.data if op.axis.data == "rows" else _elements_of_v(type_)
            return Work(scaled, bytes_of(op.scales.type) + 2 * scaled * bytes_of(type_.element_type))
        case dcom.WeightMatmulOp():
            return Work(_by_factors(_shape(op.input)[0], op.weight.type), moved)
        case dcom.ReconstructOp():
            return reconstruction(op.input.type, left_first=op.left_first is not None)
        case dcom.OutlierMatmulOp():
            batch, rows, _ = op.input.type.dimensions
            capacity, weight = op.input.type.capacity.data, op.weight.type
            product = 2 * batch * rows * capacity * weight.get_shape()[1]
            return Work(product + (_rows_of(batch * capacity, weight) if isinstance(weight, WeightType) else 0), moved)
        case dcom.TokenMatmulOp():
            batch, _, depth = op.input.type.dimensions
            rows, weight = batch * op.input.type.capacity.data, op.weight.type
            if isinstance(weight, WeightType):
                return Work(_by_factors(rows, weight), moved)
            return Work(2 * rows * depth * weight.get_shape()[1], moved)
        case dcom.OutlierSplitOp() | dcom.TokenSplitOp():
            rows, depth = _shape(op.input)
            return Work(2 * rows * depth, moved)
        case dcom.ProjectOp():
            matrices, rows, depth = op.factors.type.blocks
            return Work(2 * matrices * rows * op.factors.type.rank.data * depth, moved)
        case dcom.DecomposeOp():
            return _lanczos(op)
        case dcom.LeftMatmulOp():
            return _left_product(op)
        case dcom.HeadMatmulOp():
            count, _, depth = op.input.type.dimensions
            rank, each, width = op.input.type.rank.data, bytes_of(op.input.type.element_type), _shape(op.weight)[1]
            tracks = count * rank * (depth + width) * each
            return Work(2 * count * rank * depth * width, bytes_of(op.weight.type) + tracks)
        case dcom.ReconstructHeadsOp():
            return Work(reconstruction(op.input.type, left_first=False).flops, moved)
        case dcom.ExactTrackOp():
            return _exact_track(op)
        case dcom.BiasTrackOp() | dcom.ConcatOp() | dcom.SplitHeadsOp():
            return Work(0, moved)
        case TransposeOp():
            return Work(0, 2 * bytes_of(op.inputs[0].type))
        case GenericOp() if not converts(op):
            return Work(_points(op) * _arithmetic(op), sum(map(bytes_of, (*op.inputs.types, *op.res.types))))
        case dcom.SliceOp() | dcom.WeightOp():
            return Work()  # what reads them reads the part of V, and the factors, where they are
        case _ if op.dialect_name() == dcom.Dcom.name:
            raise ValueError(f"the work of {op.name} is not known: give it in dcomc.costs.work_of")
        case _:
            return Work()


def _preserved(op: dcom.MatmulOp) -> Work:
    """V* = V W (Eq. 6); or, with a weight in factors, a new core (Eq. 7)."""
    type_, weight = op.input.type, op.weight.type
    matrices, _, depth = type_.blocks
    rank, right = type_.core_shape
    rows = right if type_.weight_rank.data else matrices * right
    each = bytes_of(type_.element_type)
    if isinstance(weight, WeightType):
        after = weight.ranks[1]
        cores = 4 * matrices * rank * (right + after)
        flops = _by_factors(rows, weight, up_to_core=True) + 2 * matrices * rank * right * after
        return Work(flops, bytes_of(weight) + rows * depth * each + cores)
    width = weight.get_shape()[1]
    return Work(2 * rows * depth * width, bytes_of(weight) + rows * (depth + width) * each)


def _left_product(op: dcom.LeftMatmulOp) -> Work:
    """P U of each prompt; core and V stay."""
    *prompts, after, before = _shape(op.left)
    matrices, block, _ = op.input.type.blocks
    rank, each = op.input.type.rank.data, bytes_of(op.input.type.element_type)
    tracks = matrices * rank * block + prod(prompts) * op.result.type.rank.data * after
    return Work(2 * prod(prompts) * after * before * rank, bytes_of(op.left.type) + tracks * each)


def _exact_track(op: dcom.ExactTrackOp) -> Work:
    """Of channels, their rows of the weight are copied; tokens are multiplied by all of it."""
    batch, _, depth = op.input.type.dimensions
    capacity, width = op.input.type.capacity.data, op.result.type.dimensions[2]
    if isinstance(op.input.type, TokensType):
        flops, read = 2 * batch * capacity * depth * width, bytes_of(op.weight.type)
    else:
        flops, read = 0, batch * capacity * width * bytes_of(op.result.type.element_type)
    return Work(flops, bytes_of(op.input.type) + read + bytes_of(op.result.type))


def _elements_of_v(type_: FactoredType) -> int:
    """Elements of the V of all blocks; that of a weight is one for all."""
    matrices, _, cols = type_.blocks
    return type_.core_shape[1] * cols * (1 if type_.weight_rank.data else matrices)


def _by_factors(rows: int, weight: WeightType, *, up_to_core: bool = False) -> int:
    """Operations of a product with a weight in factors, factor by factor; without the last where `up_to_core`."""
    (depth, width), (left, right) = weight.get_shape(), weight.ranks
    return 2 * rows * (depth * left + left * right + (0 if up_to_core else right * width))


def _rows_of(rows: int, weight: WeightType) -> int:
    """Operations to make rows of a weight from its factors."""
    left, right = weight.ranks
    return 2 * rows * (left * right + right * weight.get_shape()[1])


def reconstruction(type_: FactoredType, *, left_first: bool) -> Work:
    """The work of `dcom.reconstruct`: U (core V), or (U core) V."""
    matrices, rows, width = type_.blocks
    left, right = type_.core_shape
    batch, length, _ = type_.dimensions
    dense = batch * length * width * bytes_of(type_.element_type)
    products = rows * right * (left + width) if left_first else left * width * (right + rows)
    return Work(2 * matrices * products, bytes_of(type_) + dense)


def _points(op: GenericOp) -> int:
    """How often the body of a structured operation runs."""
    extents: dict[int, int] = {}
    for map_, value in zip(op.get_indexing_maps(), (*op.inputs, *op.outputs), strict=True):
        if isa(value.type, TensorType):
            for expression, extent in zip(map_.data.results, value.type.get_shape(), strict=True):
                if isinstance(expression, AffineDimExpr):
                    extents[expression.position] = extent
    return prod(extents.values())


def _arithmetic(op: GenericOp) -> int:
    """Additions, multiplications and the like in the body of a structured operation."""
    return sum(isinstance(inner, arith.FloatingPointLikeBinaryOperation) for inner in op.body.block.ops)


def _lanczos(op: dcom.DecomposeOp) -> Work:
    """k steps of two products with the matrix; a new vector of either basis meets those before it in each pass."""
    matrices, rows, cols = op.factors.type.blocks
    steps, passes, rank = op.iterations.value.data, op.reorthogonalisation.value.data, op.factors.type.rank.data
    products = 2 * steps * 2 * rows * cols
    orthogonalisation = passes * 4 * (rows * (steps * (steps + 1) // 2) + cols * (steps * (steps - 1) // 2))
    truncation = 2 * rank * (rows * (steps + 1) + cols * steps)
    moved = 2 * steps * bytes_of(op.input.type) + bytes_of(op.factors.type)
    return Work(matrices * (products + orthogonalisation + truncation), moved)


def _count(op: Operation, cost: SiteCost) -> None:
    work = work_of(op)
    role = op.attributes.get("dcom.role")
    name = role.data if isinstance(role, StringAttr) else "?"
    match op:
        case dcom.DecomposeOp() | dcom.ProjectOp():
            cost.decomposition += work
            cost.factors = op.factors.type
            cost.memory += bytes_of(op.factors.type)
        case dcom.OutlierSplitOp():
            cost.decomposition += work
            cost.memory += bytes_of(op.outliers.type)
        case dcom.TokenSplitOp():
            cost.decomposition += work
            cost.memory += bytes_of(op.tokens.type)
        case dcom.HeadMatmulOp():
            batch, rows, depth = op.input.type.dimensions
            heads, each = op.heads.value.data, bytes_of(op.input.type.element_type)
            cost.products.append(Product(name, batch // heads * rows, heads * depth, _shape(op.weight)[1], each))
            cost.preserved += work
            cost.work += work
        case dcom.LeftMatmulOp():
            pass  # attention, which the dense numbers do not have either
        case dcom.MatmulOp():
            batch, rows, depth = op.input.type.dimensions
            width = op.weight.type.get_shape()[1]
            each = bytes_of(op.input.type.element_type)
            cost.products.append(Product(name, batch * rows, depth, width, each, _factored(op.weight)))
            cost.preserved += work
            cost.work += work
        case dcom.WeightMatmulOp():
            rows, depth = _shape(op.input)
            each = bytes_of(_element(op.input))
            cost.products.append(Product(name, rows, depth, _shape(op.result)[1], each, op.weight.type))
            cost.work += work
        case dcom.WeightOp():
            cost.weight_factors |= {factor: bytes_of(factor.type) for factor in op.operands}
        case LinalgMatmulOp():
            rows, depth = _shape(op.inputs[0])
            width, each = _shape(op.inputs[1])[1], bytes_of(_element(op.inputs[0]))
            cost.products.append(Product(name, rows, depth, width, each))
            cost.work += work
        case _:
            cost.work += work


def _site(op: Operation) -> str | None:
    """The site that an operation belongs to: by its role, or by what made its input."""
    role = op.attributes.get("dcom.role")
    if isinstance(role, StringAttr):
        return next((site for site, roles in ROLES.items() if role.data in roles), None)
    match op:
        case dcom.DecomposeOp() | dcom.ProjectOp() | dcom.OutlierSplitOp() | dcom.TokenSplitOp() | dcom.WeightOp():
            return op.site.data
        case (
            dcom.ReconstructOp()
            | dcom.ReconstructHeadsOp()
            | dcom.OutlierMatmulOp()
            | dcom.TokenMatmulOp()
            | dcom.MatmulOp()
            | dcom.HeadMatmulOp()
            | dcom.LeftMatmulOp()
            | dcom.SliceOp()
            | dcom.SplitHeadsOp()
            | dcom.ScaleOp()
            | dcom.ExactTrackOp()
        ):
            owner = op.input.owner
            return _site(owner) if isinstance(owner, Operation) else None
        case dcom.ConcatOp():
            return _site(op.first.owner) if isinstance(op.first.owner, Operation) else None
        case _:
            return None


def bytes_of(type_: Attribute) -> int:
    """Bytes of a value of a type; of a scalar type, of one element."""
    match type_:
        case FactoredType():
            matrices, rows, _ = type_.blocks
            left, right = type_.core_shape
            outer = matrices * left * rows + _elements_of_v(type_)
            return outer * bytes_of(type_.element_type) + 4 * matrices * left * right
        case WeightType():
            return type_.elements * bytes_of(type_.element_type)
        case OutliersType():
            batch, rows, _ = type_.dimensions
            return batch * type_.capacity.data * (rows * bytes_of(type_.element_type) + _INDEX_BYTES)
        case TokensType():
            batch, _, cols = type_.dimensions
            return batch * type_.capacity.data * (cols * bytes_of(type_.element_type) + _INDEX_BYTES)
        case _ if isinstance(type_, AnyFloat):
            return type_.bitwidth // 8
        case IntegerType():
            return -(-type_.width.data // 8)
        case _ if isa(type_, TensorType):
            return prod(type_.get_shape()) * bytes_of(type_.get_element_type())
        case _:
            return 0


def _factored(weight: SSAValue) -> WeightType | None:
    return weight.type if isinstance(weight.type, WeightType) else None


def _shape(value: SSAValue) -> tuple[int, ...]:
    assert isa(value.type, TensorType)
    return value.type.get_shape()


def _element(value: SSAValue) -> Attribute:
    assert isa(value.type, TensorType)
    return value.type.get_element_type()
