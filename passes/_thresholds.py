"""Tables of outlier thresholds: the files that `dcomc calibrate` writes and `dcomc compile --outliers` reads."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import cast

from xdsl.dialects.builtin import ModuleOp, StringAttr

from dcomc.config import layer_number
from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.percentages import share_of
from dcomc.toml_files import as_written, place_in, read_toml
from dialects.dcom import SITES, unknown_site


@dataclass(frozen=True)
class Thresholds:
    """A thresholds table: how large an element of a site's input must be to count as an outlier."""

    capacity_percent: float
    min_tokens_percent: float
    by_layer: dict[int, dict[str, float]]
    model: str | None = None
    """The model that it was calibrated on, if it says so."""
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
                raise DcomError(f"unknown key '{key}'", hint=did_you_mean(key, known), place=place_in(path, key))
        layers = _table(table.get("thresholds"), "thresholds", path)
        at = partial(place_in, path)
        return Thresholds(
            read_number(table.get("capacity_percent"), "capacity_percent", at("capacity_percent"), highest=100.0),
            read_number(table.get("min_tokens_percent"), "min_tokens_percent", at("min_tokens_percent"), highest=100.0),
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
                place = place_in(self.path, "thresholds", str(layer))
                raise DcomError(what, hint="calibrate this model", place=place)

    def min_count(self, tokens: int) -> int:
        """How many of a prompt's tokens must exceed the threshold in an outlier channel."""
        return max(1, ceil(share_of(self.min_tokens_percent, tokens)))

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


def read_number(value: object, key: str, place: str, highest: float = inf) -> float:
    """A number of a table of thresholds; raises `DcomError` where it is none from 0 to the highest."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        limit = "zero or more" if highest == inf else f"between 0 and {highest:g}"
        found = "missing" if value is None else f"{as_written(value)}, not a number {limit}"
        raise DcomError(f"{key} is {found}", hint=f"write {key} = …", place=place)
    return float(value)


def _sites(layer: str, value: object, path: str) -> dict[str, float]:
    sites = _table(value, f"thresholds.{layer}", path)
    for site in sites:
        if site not in SITES:
            what, place = f"unknown site '{site}' in [thresholds.{layer}]", place_in(path, "thresholds", layer, site)
            raise DcomError(what, hint=unknown_site(site), place=place)
    return {
        site: read_number(threshold, f"thresholds.{layer}.{site}", place_in(path, "thresholds", layer, site))
        for site, threshold in sites.items()
    }
