"""The association of chains of products V W1 W2 … of a factored value, by a cost model."""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg.ops import MatmulOp as LinalgMatmulOp
from xdsl.ir import Block, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from dcomc.costs import bytes_of
from dialects.dcom import Element, FactoredType, MatmulOp
from passes._build import building, element_of, filled, shape_of
from passes._chains import LONGEST, Tree, associate, left_to_right
from passes._roofline import Roofline


def associate_chains(block: Block, model: Roofline) -> None:
    """Multiply weights with each other first where that is less work than one after another with V."""
    seen: set[MatmulOp] = set()
    for op in list(block.ops):
        if isinstance(op, MatmulOp) and op not in seen:
            chain = _chain_from(op)
            seen.update(chain)
            if len(chain) > 1:
                _associate(chain, model)


def _chain_from(op: MatmulOp) -> list[MatmulOp]:
    """Products with dense weights, each the only reader of the one before."""
    chain = [op]
    while len(chain) < LONGEST and isa(chain[-1].weight.type, TensorType[Element]):
        users = [use.operation for use in chain[-1].result.uses]
        if len(users) != 1 or not isinstance(users[0], MatmulOp) or not isa(users[0].weight.type, TensorType[Element]):
            break
        chain.append(users[0])
    return chain


def _associate(chain: list[MatmulOp], model: Roofline) -> None:
    first, last = chain[0], chain[-1]
    type_ = first.input.type
    matrices = 1 if type_.weight_rank.data else type_.blocks[0]
    rows = matrices * type_.core_shape[1]
    extents = [rows, type_.dimensions[2], *(shape_of(op.weight)[1] for op in chain)]
    best = associate(extents, bytes_of(type_.element_type), model)
    if best.tree == left_to_right(len(chain) + 1):
        return
    with building(InsertPoint.before(last), last.location):
        product = _product(best.tree, first.input, [op.weight for op in chain])
    product.name_hint = last.result.name_hint
    cast(MatmulOp, product.owner).attributes.update(last.attributes)
    last.result.replace_all_uses_with(product)
    for op in reversed(chain):
        Rewriter.erase_op(op)


def _product(tree: Tree, factors: SSAValue[FactoredType], weights: Sequence[SSAValue]) -> SSAValue:
    """Build a product; factor 0 is the factored value, and those after it the weights."""
    if isinstance(tree, int):
        return weights[tree - 1] if tree else factors
    left, right = (_product(side, factors, weights) for side in tree)
    if isa(left.type, FactoredType):
        return MatmulOp(cast(SSAValue[FactoredType], left), right).result
    shape = (shape_of(left)[0], shape_of(right)[1])
    return LinalgMatmulOp([left, right], [filled(shape, element_of(left), 0)]).res[0]
