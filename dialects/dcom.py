"""The `dcom` dialect, Level 1: low-rank factors of activations, and the outlier channels kept exact beside them.

An activation is a 2-D tensor of B*S rows and H channels. Its rows are prompt-major: prompt b holds rows b*S to
(b+1)*S - 1. Each prompt, or each block of T of its rows, is decomposed on its own. A block X is held as U core V (the
paper's Eq. 2), and as long as only linear operations follow, the factors take the tensor's place:
(U core V) W = U core (V W) (Eq. 6). A weight may be held in factors as well (`dialects/dcom_weights.py`).

`layer` and `site` of an operation say where in the model it stands: in which decoder layer, counted from 0, and before
which of its matmuls: `qkv`, `o`, `gate_up` or `down`. No operation has side effects. Sums are in float32, and a result
of f16 is rounded once.

`dcom-legalize` lowers each operation to Level 0, and that lowering is the operation's definition. `dialects/dcom.irdl`
has the dialect for mlir-opt and iree-opt.
"""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f32,
)
from xdsl.interfaces import HasCanonicalizationPatternsInterface, HasFolderInterface
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.pattern_rewriter import RewritePattern
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from dialects.dcom_rules import (
    DENSE,
    GRAM_SCHMIDT,
    MOST_PASSES,
    SITES,
    STARTS,
    WEIGHT,
    i64_attr,
    operand,
    unknown_site,
    verify_place,
    verify_result,
    verify_rows,
    verify_weight,
    weight_type,
)
from dialects.dcom_split import OutlierMatmulOp, OutlierSplitOp, TokenMatmulOp, TokenSplitOp
from dialects.dcom_tracks import (
    BiasTrackOp,
    ConcatOp,
    ExactTrackOp,
    HeadMatmulOp,
    LeftMatmulOp,
    ReconstructHeadsOp,
    SliceOp,
    SplitHeadsOp,
)
from dialects.dcom_types import Element, FactoredType, OutliersType, TokensType, WeightType
from dialects.dcom_weights import METHODS, WeightMatmulOp, WeightOp

__all__ = [
    "GRAM_SCHMIDT",
    "METHODS",
    "MOST_PASSES",
    "SITES",
    "STARTS",
    "BiasTrackOp",
    "ConcatOp",
    "Dcom",
    "DecomposeOp",
    "Element",
    "ExactTrackOp",
    "FactoredType",
    "HeadMatmulOp",
    "LeftMatmulOp",
    "MatmulOp",
    "OutlierMatmulOp",
    "OutlierSplitOp",
    "OutliersType",
    "ProjectOp",
    "ReconstructHeadsOp",
    "ReconstructOp",
    "ScaleOp",
    "SliceOp",
    "SplitHeadsOp",
    "TokenMatmulOp",
    "TokenSplitOp",
    "TokensType",
    "WeightMatmulOp",
    "WeightOp",
    "WeightType",
    "unknown_site",
]


@irdl_op_definition
class DecomposeOp(IRDLOperation):
    """Decompose each block by Lanczos bidiagonalisation with reorthogonalisation (the paper's Algorithm 1).

    The result's type says what a block is: a prompt, or T rows of it, where a short last block is filled up with zero
    rows.

    After k = `iterations` steps, or fewer at a breakdown, X ~ U B V with B lower bidiagonal; the SVD P diag(s) Q^T of B
    then truncates to the rank R: U P[:, :R], core diag(s[:R]), Q^T[:R] V, with zero columns for missing steps.
    `runtime/lanczos.py` is the definition; `kernel` names the accelerator's program for it, once there is one.

    A breakdown is a vector whose norm is rounding beside the largest so far: max(T, H) roundings of float32; 2^-10 on
    the accelerator, whose vectors are binary16, and where `reorthogonalisation` is less than 2. So min(T, H) steps give
    X itself, to about the tolerance, but for singular values that are all but equal: the steps find one direction.

    With `energy` e in (0, 1] the factors are those of the SVD, and only the fewest singular values that hold at least
    the share e of the block's sum of squares are kept, at most R; the columns past them are zero.

    `input` f16 or f32 [B*S, H]; the result has the same shape and element type, at rank R <= k <= min(T, H).
    """

    name = "dcom.decompose"

    input = operand(DENSE)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    iterations = prop_def(IntegerAttr[I64])
    """k, the steps of Lanczos."""
    reorthogonalisation = prop_def(IntegerAttr[I64])
    """Gram-Schmidt passes for each new vector."""
    seed = prop_def(IntegerAttr[I64])
    """The seed of the start vector."""
    gram_schmidt = opt_prop_def(StringAttr)
    """`classical`, the default: all dot products of a pass come first; or `modified`, one vector at a time."""
    start = opt_prop_def(StringAttr)
    """`random`, the default: u_0 comes from the seed; or `mean`: it is the same in each row, and so v_0 is the mean of
    the rows."""
    energy = opt_prop_def(FloatAttr[Float32Type])
    """e, the share of a block's sum of squares that is enough."""
    kernel = opt_prop_def(SymbolRefAttr)
    """The accelerator's program."""
    factors = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($factors)"

    def __init__(
        self,
        source: SSAValue | Operation,
        factors: FactoredType,
        *,
        layer: int,
        site: str,
        iterations: int,
        reorthogonalisation: int = 2,
        seed: int = 0,
        gram_schmidt: str = "classical",
        start: str = "random",
        energy: float | None = None,
        kernel: str | None = None,
    ) -> None:
        super().__init__(
            operands=[SSAValue.get(source)],
            result_types=[factors],
            properties={
                "layer": i64_attr(layer),
                "site": StringAttr(site),
                "iterations": i64_attr(iterations),
                "reorthogonalisation": i64_attr(reorthogonalisation),
                "seed": i64_attr(seed),
                "gram_schmidt": None if gram_schmidt == "classical" else StringAttr(gram_schmidt),
                "start": None if start == "random" else StringAttr(start),
                "energy": None if energy is None else FloatAttr(energy, f32),
                "kernel": None if kernel is None else SymbolRefAttr(kernel),
            },
        )

    @property
    def modified(self) -> bool:
        """Whether Gram-Schmidt takes one vector at a time."""
        return self.gram_schmidt is not None and self.gram_schmidt.data == "modified"

    @property
    def start_seed(self) -> int | None:
        """The seed of the start vector; None where it is the same in each row."""
        return None if self.start is not None and self.start.data == "mean" else self.seed.value.data

    def verify_(self) -> None:
        verify_place(self.layer, self.site)
        verify_rows(self.input.type, self.factors.type)
        if self.factors.type.weight_rank.data:
            raise VerifyException("a decomposition gives each block a V of its own, of rank R")
        _, rows, cols = self.factors.type.blocks
        rank, iterations = self.factors.type.rank.data, self.iterations.value.data
        if not rank <= iterations <= min(rows, cols):
            raise VerifyException(
                f"iterations {iterations} is not between the rank {rank} and min(T, H) = {min(rows, cols)}"
            )
        passes = self.reorthogonalisation.value.data
        if not 0 <= passes <= MOST_PASSES:
            raise VerifyException(f"reorthogonalisation {passes} is not between 0 and {MOST_PASSES}")
        if self.seed.value.data < 0:
            raise VerifyException(f"seed {self.seed.value.data} is negative")
        if self.gram_schmidt is not None and self.gram_schmidt.data not in GRAM_SCHMIDT:
            known = ", ".join(GRAM_SCHMIDT)
            raise VerifyException(f"unknown gram_schmidt '{self.gram_schmidt.data}', expected one of {known}")
        if self.start is not None and self.start.data not in STARTS:
            raise VerifyException(f"unknown start '{self.start.data}', expected one of {', '.join(STARTS)}")
        if self.energy is not None and not 0 < self.energy.value.data <= 1:
            raise VerifyException(f"energy {self.energy.value.data:g} is not above 0 and at most 1")


@irdl_op_definition
class ProjectOp(IRDLOperation, HasCanonicalizationPatternsInterface):
    """Project each block on the basis of another activation of the same tokens: X ~ U (U^T X).

    U is that of `basis`, whose columns are orthonormal or zero, as a decomposition leaves them; the core and V of
    `basis` are not used. The rows of U^T X, normalised, make V, and their norms the diagonal of the core; a row of
    zeros stays zero. So one decomposition serves several sites of a layer, each for one product instead of 2k.

    `input` f16 or f32 [B*S, H]; `basis` of B prompts of S tokens, any channels; products are summed in float32.
    """

    name = "dcom.project"

    input = operand(DENSE)
    basis = operand(FactoredType)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    factors = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input `on` $basis attr-dict `:` type($input) `,` type($basis) `->` type($factors)"

    def __init__(self, source: SSAValue | Operation, basis: SSAValue[FactoredType], *, layer: int, site: str) -> None:
        value = SSAValue.get(source)
        cols = cast(TensorType[Element], value.type).get_shape()[1]
        super().__init__(
            operands=[value, basis],
            result_types=[basis.type.with_cols(cols)],
            properties={"layer": i64_attr(layer), "site": StringAttr(site)},
        )

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import BasisWhereItWasMade

        return (BasisWhereItWasMade(),)

    def verify_(self) -> None:
        verify_place(self.layer, self.site)
        verify_rows(self.input.type, self.factors.type)
        verify_result(self.factors.type, self.basis.type.with_cols(self.factors.type.dimensions[2]))


@irdl_op_definition
class MatmulOp(IRDLOperation):
    """Multiply a factored activation by a weight and leave it factored: V* = V W, U and core unchanged (Eq. 6).

    A weight in factors, U_W core_W V_W, gives a new core only, core* = core ((V U_W) core_W); U is unchanged, and V_W
    takes the place of V (Eq. 7).

    `weight` [H, N], dense or in factors, of the activation's element type; products are summed in float32.
    """

    name = "dcom.matmul"

    input = operand(FactoredType)
    weight = operand(WEIGHT)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], weight: SSAValue) -> None:
        super().__init__(operands=[source, weight], result_types=[source.type.times(weight_type(weight))])

    def verify_(self) -> None:
        verify_weight(self.weight.type, self.input.type.dimensions[2], self.input.type.element_type)
        verify_result(self.result.type, self.input.type.times(self.weight.type))


@irdl_op_definition
class ScaleOp(IRDLOperation, HasFolderInterface, HasCanonicalizationPatternsInterface):
    """Multiply each row or each channel of a factored activation by a number of its own, and leave it factored.

    With `axis = "rows"` the scales [B*S] multiply U, whose columns then no longer have norm 1; with
    `axis = "channels"` the scales [N] multiply V. The scales have the activation's element type.
    """

    name = "dcom.scale"

    input = operand(FactoredType)
    scales = operand(DENSE)
    axis = prop_def(StringAttr)
    """`rows` or `channels`."""
    result = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input `by` $scales attr-dict `:` type($input) `,` type($scales) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], scales: SSAValue, axis: str) -> None:
        super().__init__(operands=[source, scales], result_types=[source.type], properties={"axis": StringAttr(axis)})

    def fold(self) -> Sequence[SSAValue | Attribute] | None:
        """Scaling by ones is no scaling."""
        from dialects.dcom_canonicalise import all_ones

        return [self.input] if all_ones(self.scales) else None

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import RowScalesFirst

        return (RowScalesFirst(),)

    def verify_(self) -> None:
        batch, rows, cols = self.input.type.dimensions
        lengths = {"rows": batch * rows, "channels": cols}
        if self.axis.data not in lengths:
            raise VerifyException(f"unknown axis '{self.axis.data}', expected rows or channels")
        expected = TensorType(self.input.type.element_type, [lengths[self.axis.data]])
        if self.scales.type != expected:
            raise VerifyException(f"scales are {self.scales.type}, but the {self.axis.data} need {expected}")
        verify_result(self.result.type, self.input.type)


@irdl_op_definition
class ReconstructOp(IRDLOperation):
    """The dense tensor of a factored one, U (core V), multiplied in that order (Eq. 4), or (U core) V.

    The latter is less work where a block has fewer rows than channels. The result is [B*S, N], of the factors' element
    type; products are summed in float32.
    """

    name = "dcom.reconstruct"

    input = operand(FactoredType)
    left_first = opt_prop_def(UnitAttr)
    """Multiply (U core) V."""
    result = result_def(DENSE)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], *, left_first: bool = False) -> None:
        super().__init__(
            operands=[source],
            result_types=[source.type.dense],
            properties={"left_first": UnitAttr() if left_first else None},
        )

    def verify_(self) -> None:
        verify_rows(self.result.type, self.input.type)


Dcom = Dialect(
    "dcom",
    [
        OutlierSplitOp,
        OutlierMatmulOp,
        TokenSplitOp,
        TokenMatmulOp,
        DecomposeOp,
        ProjectOp,
        MatmulOp,
        ScaleOp,
        ReconstructOp,
        BiasTrackOp,
        ExactTrackOp,
        ConcatOp,
        SliceOp,
        SplitHeadsOp,
        LeftMatmulOp,
        HeadMatmulOp,
        ReconstructHeadsOp,
        WeightOp,
        WeightMatmulOp,
    ],
    [FactoredType, OutliersType, TokensType, WeightType],
)
