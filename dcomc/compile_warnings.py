"""What `dcomc compile` warns of: what can save nothing or changes nothing, which is mostly not what was meant."""

from collections.abc import Iterator, Sequence

from xdsl.dialects.builtin import ModuleOp

from dcomc.places import Place, layers_text, sites_by_layers
from dialects.dcom import DecomposeOp, OutlierSplitOp, TokenSplitOp


def warnings(module: ModuleOp) -> Iterator[str]:
    """A line for each reason, with the layers and sites that it holds for.

    Args:
        module: in the dcom dialect, or further down.
    """
    found: dict[str, list[Place]] = {}
    for op in module.walk():
        if isinstance(op, DecomposeOp | OutlierSplitOp | TokenSplitOp) and (why := _why(op)):
            found.setdefault(why, []).append((op.layer.value.data, op.site.data))
    for why, places in found.items():
        for sites, layers in sites_by_layers(places):
            yield f"warning: {layers_text(layers)} ({', '.join(sites)}): {why}"


def without_effect(module: ModuleOp, options: Sequence[str]) -> Iterator[str]:
    """A line on the given options of decompositions where a lowered module has none."""
    if options and not any(isinstance(op, DecomposeOp) for op in module.walk()):
        verb = "has" if len(options) == 1 else "have"
        yield f"warning: {', '.join(options)} {verb} no effect, as no layer is decomposed"


def _why(op: DecomposeOp | OutlierSplitOp | TokenSplitOp) -> str | None:
    match op:
        case OutlierSplitOp():
            whole, what = op.outliers.type.dimensions[2], "channels"
            kept = op.outliers.type.capacity.data
        case TokenSplitOp():
            whole, what = op.tokens.type.dimensions[1], "tokens"
            kept = op.tokens.type.capacity.data
        case DecomposeOp():
            type_ = op.factors.type
            rows, cols, rank = type_.block.data, type_.dimensions[2], type_.rank.data
            full = op.energy is None and rank >= min(rows, cols)
            return f"rank {rank} is the full rank of {rows} x {cols}, so the factors save nothing" if full else None
    return f"all {whole:,} {what} are kept exact, so nothing is left to decompose" if kept >= whole else None
