"""`dcom-insert-outlier-split`: keep each prompt's largest channels and tokens out of what will be decomposed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dcomc.config import SiteOptions, check_limits
from dcomc.diagnostics import DcomError
from dcomc.percentages import share_of
from dialects.dcom import (
    SITES,
    Element,
    OutlierMatmulOp,
    OutlierSplitOp,
    OutliersType,
    TokenMatmulOp,
    TokenSplitOp,
    TokensType,
)
from passes._build import add, building, structured
from passes._sites import Layers, Site, check_reuse, check_sites, find_sites, module_size, read_config
from passes._thresholds import Thresholds


@dataclass(frozen=True)
class DcomInsertOutlierSplitPass(ModulePass):
    """Split outlier channels, and tokens, from the input of chosen sites, and multiply them on their own.

    Each chosen layer gets its own copy of the function it calls. Before:

        %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %w : …) outs(%zero : …) -> …

    and after:

        %dense, %outliers = dcom.outlier_split %x {layer = 10 : i64, site = "qkv", capacity = 18 : i64} : …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%dense, %w : …) outs(%zero : …) -> …
        %q_outliers = dcom.outlier_matmul %outliers, %w : …
        %q_sum = linalg.generic … ins(%q, %q_outliers : …)

    Without thresholds the channels of largest energy are the outliers. A table of thresholds is a TOML file:

        capacity_percent = 5.0     # at most this share of a site's channels is split off
        min_tokens_percent = 1.0   # a channel is an outlier when at least this share of a prompt's tokens …
        [thresholds.10]            # … has a magnitude above its layer's and site's threshold
        qkv = 2.5

    With `exact_rows`, tokens of largest energy in what the channels leave are kept exact as well:

        %dense_1, %tokens = dcom.token_split %dense {layer = 10 : i64, site = "qkv", capacity = 26 : i64} : …
        %q_tokens = dcom.token_matmul %tokens, %w : …
    """

    name = "dcom-insert-outlier-split"

    layers: tuple[int, ...]
    """Layers to split, counted from 0."""
    sites: tuple[str, ...] = tuple(SITES)
    """Sites of each layer."""
    outliers: int | float | str | None = None
    """The share of the channels that may be outliers, in percent (rounded up to whole channels; 0 leaves the module as
    it is), or a file with a table of thresholds."""
    exact_rows: int | float | None = None
    """The share of a prompt's tokens that are kept exact, in percent (rounded up to whole tokens)."""
    reuse: tuple[str, ...] = ()
    """Sites that project on the basis of the layer's first other site, and so keep the same tokens exact."""
    config: str | None = None
    """A TOML file that says otherwise for single layers and sites (`dcomc.config.SiteConfig`)."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` for a layer, site, percentage or table that does not fit the module."""
        sites = check_sites(self.sites)
        if self.outliers is None and self.exact_rows is None and self.config is None:
            raise DcomError("give outliers, exact_rows or config", hint="for example outliers=3")
        table = Thresholds.read(self.outliers) if isinstance(self.outliers, str) else None
        share = table.capacity_percent if table else float(self.outliers or 0)
        check_limits("outliers", share)
        check_limits("exact_rows", self.exact_rows)
        config = read_config(self.config)
        if table is not None and config.sets("outliers"):
            raise DcomError("give outliers in the config or a thresholds table, not both", place=self.config)
        layers = Layers.of(op)
        if table is not None:
            table.check(op, layers.calls)
        chosen = layers.check(self.layers)
        reuse = check_reuse(self.reuse, sites)
        config.check(chosen, sites)
        splitter = _Splitter(layers, module_size(op, "batch"), module_size(op, "seq_len"), table)
        defaults = SiteOptions(outliers=share, exact_rows=float(self.exact_rows or 0))
        for layer in chosen:
            options = {name: config.options(layer, name, replace(defaults, reuse=name in reuse)) for name in sites}
            basis = None
            for number, name in enumerate(site for site in sites if options[site].decompose):
                tokens = splitter.split(layer, name, options[name], basis if options[name].reuse else None)
                if number == 0:
                    basis = tokens


@dataclass(frozen=True)
class _Splitter:
    """Splits the inputs of sites of one module."""

    layers: Layers
    batch: int
    tokens: int
    """Tokens of a prompt."""
    thresholds: Thresholds | None

    def split(
        self, layer: int, name: str, options: SiteOptions, like: SSAValue[TokensType] | None = None
    ) -> SSAValue[TokensType] | None:
        """Split channels and tokens from the input of a site, or from each of its inputs.

        Args:
            like: exact tokens of another site, whose rows are taken.

        Returns:
            The exact tokens of the first input, if there are any.
        """
        table = self.thresholds
        threshold, min_count = (table.of(layer, name), table.min_count(self.tokens)) if table else (None, None)
        exact_rows = ceil(share_of(options.exact_rows, self.tokens)) if like is None else like.type.capacity.data
        if not options.outliers and not exact_rows:
            return None
        found: list[SSAValue[TokensType]] = []
        for site in find_sites(self.layers.own_function(layer), layer, name):
            site.check_dense("split what is to be exact from it before that")
            cols, element = site.input.type.get_shape()[1], site.input.type.element_type
            rest = site
            if options.outliers:
                capacity = ceil(share_of(options.outliers, cols))
                outliers = OutliersType.get(self.batch, self.tokens, cols, capacity, element)
                rest = _split_channels(site, outliers, threshold, min_count)
            if exact_rows:
                tokens = TokensType.get(self.batch, self.tokens, cols, exact_rows, element)
                found.append(_split_tokens(rest, tokens, like))
        return found[0] if found else None


def _split_channels(site: Site, outliers: OutliersType, threshold: float | None, min_count: int | None) -> Site:
    """Keep channels exact; returns the site of what is left."""
    with building(site.insert_point(), site.location):
        split = OutlierSplitOp(
            site.input, outliers, layer=site.layer, site=site.name, threshold=threshold, min_count=min_count
        )
    split.dense.name_hint, split.outliers.name_hint = "dense", "outliers"
    site.replace_input(split.dense)
    _add_products(site, "outliers", lambda weight: OutlierMatmulOp(split.outliers, weight).result)
    return replace(site, input=split.dense)


def _split_tokens(site: Site, tokens: TokensType, like: SSAValue | None) -> SSAValue[TokensType]:
    """Keep tokens exact, those of `like` where it is given; returns them."""
    with building(site.insert_point(), site.location):
        split = TokenSplitOp(site.input, tokens, layer=site.layer, site=site.name, like=like)
    split.dense.name_hint, split.tokens.name_hint = "dense", "tokens"
    site.replace_input(split.dense)
    _add_products(site, "tokens", lambda weight: TokenMatmulOp(split.tokens, weight).result)
    return split.tokens


def _add_products(site: Site, what: str, multiply: Callable[[SSAValue], SSAValue]) -> None:
    """Add the product of what has been split off to that of each matmul of the site."""
    for matmul in site.matmuls:
        product = matmul.res[0]
        type_ = cast(TensorType[Element], product.type)
        with building(InsertPoint.after(matmul), matmul.location):
            exact = multiply(matmul.inputs[1])
            total = structured("sn,sn->sn", [product, exact], type_.element_type, add)
        total.name_hint = product.name_hint
        exact.name_hint = f"{product.name_hint}_{what}" if product.name_hint else None
        summation = total.owner
        product.replace_uses_with_if(total, lambda use, keep=summation: use.operation is not keep)
