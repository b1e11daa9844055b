"""`dcom-insert-outlier-split`: keep each prompt's largest channels and tokens out of what will be decomposed."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dcomc.config import SiteOptions, check_limits, layer_number
from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.toml_files import place_of, read_toml
from dialects.dcom import (
    SITES,
    Element,
    OutlierMatmulOp,
    OutlierSplitOp,
    OutliersType,
    TokenMatmulOp,
    TokenSplitOp,
    TokensType,
    unknown_site,
)
from passes._build import add, building, structured
from passes._sites import Layers, Site, check_reuse, check_sites, find_sites, module_size, read_config


@dataclass(frozen=True)
class Thresholds:
    """A thresholds table: how large an element of a site's input must be to count as an outlier."""

    capacity_percent: float
    min_tokens_percent: float
    by_layer: dict[int, dict[str, float]]
    model: str | None = None
    """That it was calibrated on, if it says so."""
    path: str = ""

    @staticmethod
    def read(path: str) -> "Thresholds":
        """Read a table in the format that `DcomInsertOutlierSplitPass` describes.

        Raises:
            DcomError: the file is missing, is no TOML, or holds another key or a value out of range.
        """
        table = read_toml(path, "give a thresholds TOML file")
        known = ("capacity_percent", "min_tokens_percent", "thresholds", "model", "calibration", "statistics")
        for key in table:
            if key not in known:
                raise DcomError(f"unknown key '{key}'", hint=did_you_mean(key, known), place=place_of(path, key))
        layers = _table(table.get("thresholds"), "thresholds", path)
        return Thresholds(
            read_number(table.get("capacity_percent"), "capacity_percent", path, highest=100.0),
            read_number(table.get("min_tokens_percent"), "min_tokens_percent", path, highest=100.0),
            {layer_number(name, "thresholds", path): _sites(name, value, path) for name, value in layers.items()},
            str(table["model"]) if "model" in table else None,
            path,
        )

    def check(self, module: ModuleOp, layers: Collection[int]) -> None:
        """Raises `DcomError` where the table is of another model than the module, by its name or with more layers."""
        traced = module.attributes.get("dcom.model")
        if self.model is not None and isinstance(traced, StringAttr) and traced.data != self.model:
            raise DcomError(
                f"the table is of {self.model}, not of {traced.data}",
                hint="calibrate this model; if it is the same one, change the table's `model`",
                place=self.path,
            )
        for layer in self.by_layer:
            if layer not in layers:
                what = f"the table has layer {layer}, and the model has layers {min(layers)} to {max(layers)}"
                place = place_of(self.path, "thresholds", str(layer))
                raise DcomError(what, hint="calibrate this model", place=place)

    def of(self, layer: int, site: str) -> float:
        """The threshold of a site; raises `DcomError` where the table has none."""
        found = self.by_layer.get(layer, {}).get(site)
        if found is None:
            raise DcomError(
                f"the thresholds table has no entry for site {site} of layer {layer}",
                hint=f"add `{site} = …` to [thresholds.{layer}]",
                place=self.path,
            )
        return found


def _table(value: object, key: str, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DcomError(
            f"there is no table [{key}]", hint="see `dcomc opt --describe-pass dcom-insert-outlier-split`", place=path
        )
    return cast(dict[str, object], value)


def read_number(value: object, key: str, path: str, highest: float = math.inf) -> float:
    """A number of a table of thresholds; raises `DcomError` where it is none from 0 to the highest."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        limit = "zero or more" if highest == math.inf else f"between 0 and {highest:g}"
        found = "missing" if value is None else f"{value!r}, not a number {limit}"
        raise DcomError(f"{key} is {found}", hint=f"write {key} = …", place=path)
    return float(value)


def _sites(layer: str, value: object, path: str) -> dict[str, float]:
    sites = _table(value, f"thresholds.{layer}", path)
    for site in sites:
        if site not in SITES:
            what, place = f"unknown site '{site}' in [thresholds.{layer}]", place_of(path, "thresholds", layer, site)
            raise DcomError(what, hint=unknown_site(site), place=place)
    return {site: read_number(threshold, f"thresholds.{layer}.{site}", path) for site, threshold in sites.items()}


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
        batch, tokens = module_size(op, "batch"), module_size(op, "seq_len")
        defaults = SiteOptions(outliers=share, exact_rows=float(self.exact_rows or 0))
        for layer in chosen:
            basis: SSAValue[TokensType] | None = None
            first = True
            for name in sites:
                options = config.options(layer, name, replace(defaults, reuse=name in reuse))
                if not options.decompose:
                    continue
                exact_rows = math.ceil(options.exact_rows / 100 * tokens)
                like = basis if options.reuse else None
                if like is not None:
                    exact_rows = like.type.capacity.data
                threshold = table.of(layer, name) if table else None
                min_count = max(1, math.ceil(table.min_tokens_percent / 100 * tokens)) if table else None
                for site in (
                    find_sites(layers.own_function(layer), layer, name) if options.outliers or exact_rows else ()
                ):
                    cols, element = site.input.type.get_shape()[1], site.input.type.element_type
                    if options.outliers:
                        capacity = math.ceil(options.outliers / 100 * cols)
                        outliers = OutliersType.get(batch, tokens, cols, capacity, element)
                        site = _split_channels(site, layer, name, outliers, threshold, min_count)
                    if exact_rows:
                        type_ = TokensType.get(batch, tokens, cols, exact_rows, element)
                        split = _split_tokens(site, layer, name, type_, like)
                        basis = split if first else basis
                        first = False
                first = False


def _split_channels(
    site: Site, layer: int, name: str, outliers: OutliersType, threshold: float | None, min_count: int | None
) -> Site:
    """Keep channels exact; returns the site of what is left."""
    with building(site.insert_point(), site.location):
        split = OutlierSplitOp(site.input, outliers, layer=layer, site=name, threshold=threshold, min_count=min_count)
    split.dense.name_hint, split.outliers.name_hint = "dense", "outliers"
    site.replace_input(split.dense)
    _add_products(site, "outliers", lambda weight: OutlierMatmulOp(split.outliers, weight).result)
    return Site(split.dense, site.matmuls)


def _split_tokens(site: Site, layer: int, name: str, tokens: TokensType, like: SSAValue | None) -> SSAValue[TokensType]:
    """Keep tokens exact, those of `like` where it is given; returns them."""
    with building(site.insert_point(), site.location):
        split = TokenSplitOp(site.input, tokens, layer=layer, site=name, like=like)
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
