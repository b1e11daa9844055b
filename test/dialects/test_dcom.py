"""What every operation of `dcom` has: no side effects, and results whose types follow from what goes in."""

from typing import Any

import pytest
import xdsl.dialects.test as upstream
from xdsl.dialects.builtin import TensorType, f16, f32
from xdsl.ir import Attribute, Operation
from xdsl.traits import Pure

from dialects import dcom
from dialects.dcom import Dcom, Element, FactoredType, OutliersType, TokensType, WeightType

B, S, H, N = 2, 16, 64, 24


def value(type_: Attribute) -> Any:
    """Some value of a type."""
    return upstream.TestOp(result_types=[type_]).results[0]


def factored(cols: int, element: Element, *, block: int = 5, weight_rank: int = 0) -> FactoredType:
    return FactoredType.get(B, S, cols, 4, element, block, weight_rank)


@pytest.mark.parametrize("operation", [*Dcom.operations], ids=lambda operation: operation.name)
def test_no_operation_has_side_effects(operation: type[Operation]) -> None:
    assert operation.has_trait(Pure)


@pytest.mark.parametrize("element", [f16, f32], ids=str)
def test_results_have_the_types_that_verifiers_expect(element: Element) -> None:
    x, y = (TensorType(element, [B * S, cols]) for cols in (H, N))
    w, weight = TensorType(element, [H, N]), WeightType.get(H, N, (8, 6), element)
    f = value(factored(H, element))
    outliers, tokens = OutliersType.get(B, S, H, 3, element), TokensType.get(B, S, H, 2, element)
    cases: list[tuple[Operation, Attribute]] = [
        (dcom.MatmulOp(f, value(w)), factored(N, element)),
        (dcom.MatmulOp(f, value(weight)), factored(N, element, weight_rank=6)),
        (dcom.ScaleOp(f, value(TensorType(element, [H])), "channels"), factored(H, element)),
        (dcom.ReconstructOp(f), x),
        (dcom.ProjectOp(value(y), f, layer=1, site="down"), factored(N, element)),
        (dcom.OutlierMatmulOp(value(outliers), value(w)), y),
        (dcom.OutlierMatmulOp(value(outliers), value(weight)), y),
        (dcom.TokenMatmulOp(value(tokens), value(w)), y),
        (dcom.WeightMatmulOp(value(x), value(weight)), y),
    ]
    for op, type_ in cases:
        op.verify()
        assert op.results[0].type == type_, op.name
