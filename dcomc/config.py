"""What to do at each layer and site, where it is not the same at all: the file that `dcomc compile --config` reads."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from types import NoneType
from typing import Any, cast, get_args, get_type_hints

from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.toml_files import as_written, place_in, read_toml
from dialects.dcom import GRAM_SCHMIDT, METHODS, MOST_PASSES, SITES, STARTS, unknown_site

EXTRA_ITERATIONS = 5
"""Lanczos steps past the rank unless told otherwise: they bring the error within about 1% of the best possible."""


@dataclass(frozen=True)
class SiteOptions:
    """What to do at one site of one layer."""

    decompose: bool = True
    """Whether to do anything to the activations."""
    rank: int = 10
    iterations: int | None = None
    """Lanczos steps; the pass chooses where none are given."""
    reorthogonalisation: int = 2
    """Gram-Schmidt passes a vector."""
    seed: int = 0
    """The seed of the start vector."""
    gram_schmidt: str = "classical"
    """`classical`, each vector against all before at once; or `modified`, one after another."""
    start: str = "random"
    """Where Lanczos starts: `random`, from the seed; or `mean`."""
    block: int | None = None
    """Tokens that share a basis; all of a prompt unless given."""
    energy: float | None = None
    """The share of a block's energy that is enough, from above 0 to 1; the rank is the most."""
    reuse: bool = False
    """Project on the basis of the layer's first decomposed site, at its rank and block."""
    outliers: float = 0.0
    """Channels kept exact, in percent."""
    exact_rows: float = 0.0
    """Tokens kept exact, in percent."""
    mapping: str = "auto"
    """Which clusters decompose a matrix together: `mapping` of `cluster-map`."""
    streams: str = "auto"
    """Rectangles of clusters that take their shares of the matrices side by side: `streams` of `cluster-map`."""
    weight_rank: int = 0
    """The rank of the factors of the site's weights, on both sides of their cores; 0 leaves the weights as they are."""
    weight_method: str = "svd"
    """How those factors are found: one of `dialects.dcom.METHODS`."""

    @property
    def start_seed(self) -> int | None:
        """The seed of the start vector; None where that is the same in each row."""
        return None if self.start == "mean" else self.seed

    def check(
        self,
        tokens: float = inf,
        channels: float = inf,
        *,
        where: str = "",
        place: Callable[[str], str | None] = lambda option: None,
    ) -> None:
        """Raise `DcomError` where an option for activations has a value that it may not have.

        With `reuse` the rank, the iterations and the block are those of another site, and not looked at.

        Args:
            tokens: of a prompt; any number unless given.
            channels: of the site; any number unless given.
            where: such as `site o of layer 3`, for errors.
            place: the file that sets an option, if one does.
        """
        for option in (each.name for each in fields(self) if each.name not in OF_WEIGHTS):
            value = getattr(self, option)
            _check_type(option, option, value, place(option))
            if option in LIMITS:
                check_limits(option, value, place(option))
            if option in CHOICES:
                check_choice(option, value, place(option))
        if not self.reuse:
            self._check_sizes(tokens, channels, where, place)

    def _check_sizes(self, tokens: float, channels: float, where: str, place: Callable[[str], str | None]) -> None:
        block = tokens if self.block is None else self.block
        if not 1 <= block <= tokens:
            what = "below 1" if tokens == inf else f"not between 1 and the {tokens} tokens of a prompt"
            raise DcomError(f"block {block} is {what}", hint="such as 64", place=place("block"))
        most = min(block, channels)
        shape = where
        if most < inf and channels < inf:
            shape = f"{where} is {block} x {channels} a {'prompt' if block == tokens else 'block'}"
        if not 1 <= self.rank <= most:
            what = "below 1" if self.rank < 1 and most == inf else f"not between 1 and {most}"
            raise DcomError(f"rank {self.rank} is {what}", hint=shape, place=place("rank"))
        if self.iterations is not None and not self.rank <= self.iterations <= most:
            what = f"below the rank {self.rank}" if most == inf else f"not between the rank {self.rank} and {most}"
            raise DcomError(
                f"iterations {self.iterations} is {what}", hint=shape, place=place("iterations") or place("rank")
            )


OF_WEIGHTS = ("weight_rank", "weight_method")
"""The options that are for weights; the others are for activations."""


@dataclass(frozen=True)
class Limits:
    """The values that an option may have whatever the model."""

    low: float
    high: float
    text: str
    hint: str


LIMITS: Mapping[str, Limits] = {
    "reorthogonalisation": Limits(
        1,
        MOST_PASSES,
        f"between 1 and {MOST_PASSES}",
        "2 is the default; without any, Lanczos vectors lose their orthogonality",
    ),
    "seed": Limits(0, 2**63 - 1, "between 0 and 2^63 - 1", "0 is the default"),
    "energy": Limits(2.0**-126, 1, "above 0 and at most 1", "such as 0.95"),
    "outliers": Limits(0, 100, "between 0 and 100", "it is the percentage of channels kept exact"),
    "exact_rows": Limits(0, 100, "between 0 and 100", "it is the percentage of tokens kept exact"),
}
"""The limits of those options of `SiteOptions` that have any; those of the others depend on the model's shape."""


CHOICES: Mapping[str, Collection[str]] = {
    "gram_schmidt": GRAM_SCHMIDT,
    "start": STARTS,
    "weight_method": METHODS,
}
"""The words that those options of `SiteOptions` may be whose values are words."""


def check_choice(option: str, value: str, place: str | None = None) -> None:
    """Raise `DcomError` where the value of an option, a key of `CHOICES`, is none of its words.

    Args:
        place: the file that says so, if one does.
    """
    if value not in CHOICES[option]:
        raise DcomError(
            f"unknown {option.removeprefix('weight_')} '{value}'",
            hint=did_you_mean(value, CHOICES[option]),
            place=place,
        )


def check_limits(option: str, value: float | None, place: str | None = None) -> None:
    """Raise `DcomError` where the value of an option, if it has one, is out of its range.

    Args:
        option: a key of `LIMITS`.
        place: the file that says so, if one does.
    """
    allowed = LIMITS[option]
    if value is not None and not allowed.low <= value <= allowed.high:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        raise DcomError(f"{option} {shown} is not {allowed.text}", hint=allowed.hint, place=place)


@dataclass(frozen=True)
class SiteConfig:
    """Options for all, for sites, for layers, and for sites of layers; the more exact place wins.

        rank = 10                  # at every layer and site
        [sites.gate_up]            # this site in every layer
        rank = 16
        [layers.14]                # every site of this layer
        block = 32
        [layers.14.sites.o]        # this site of this layer
        decompose = false

    The keys are the fields of `SiteOptions`; those of weights begin with `weight_`.
    """

    path: str = ""
    everywhere: Mapping[str, Any] = field(default_factory=dict[str, Any])
    by_site: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    by_layer: Mapping[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])
    by_place: Mapping[tuple[int, str], Mapping[str, Any]] = field(
        default_factory=dict[tuple[int, str], Mapping[str, Any]]
    )

    @staticmethod
    def read(path: str) -> "SiteConfig":
        """Read a file.

        Raises:
            DcomError: it is missing, is no TOML, or has an unknown key, or a value of another type or out of range.
        """
        table = read_toml(path, "give a TOML file of options by layer and site")
        sites, layers = (_table(table.pop(key, {}), path, key) for key in ("sites", "layers"))
        by_layer: dict[int, Mapping[str, Any]] = {}
        by_place: dict[tuple[int, str], Mapping[str, Any]] = {}
        for name, value in layers.items():
            layer = layer_number(name, "layers", path)
            options = _table(value, path, "layers", name)
            for site, inner in _sites(options.pop("sites", {}), path, "layers", name).items():
                by_place[layer, site] = inner
            by_layer[layer] = _options(options, path, "layers", name)
        return SiteConfig(path, _options(table, path), _sites(sites, path), by_layer, by_place)

    def check(self, layers: Iterable[int], sites: Iterable[str], *, weights: bool = False) -> None:
        """Raises `DcomError` where the file has options for a layer or a site that is not among those chosen.

        Args:
            weights: look at the options of weights alone, otherwise at the others.
        """
        chosen_layers, chosen_sites = set(layers), set(sites)

        def matters(table: Mapping[str, Any]) -> bool:
            return any((option in OF_WEIGHTS) == weights for option in table)

        by_layer = [layer for layer, table in self.by_layer.items() if matters(table)]
        by_place = [place for place, table in self.by_place.items() if matters(table)]
        for layer in sorted({*by_layer, *(layer for layer, _ in by_place)}):
            if layer not in chosen_layers:
                raise DcomError(
                    f"[layers.{layer}] is not decomposed",
                    hint=f"add it to the layers, {_list(chosen_layers)}",
                    place=place_in(self.path, "layers", str(layer)),
                )
        by_site = [site for site, table in self.by_site.items() if matters(table)]
        for site in (*by_site, *(site for _, site in by_place)):
            if site not in chosen_sites:
                raise DcomError(
                    f"site {site} is not decomposed",
                    hint=f"add it to the sites, {_list(chosen_sites)}",
                    place=self.path,
                )

    def check_model(self, layers: Collection[int]) -> None:
        """Raises `DcomError` where the file has options for a layer that is not among those of the model."""
        for layer in self.by_layer:
            if layer not in layers:
                raise DcomError(
                    f"layer {layer} does not exist",
                    hint=f"the model has layers {min(layers)} to {max(layers)}",
                    place=place_in(self.path, "layers", str(layer)),
                )

    def options(self, layer: int, site: str, defaults: SiteOptions) -> SiteOptions:
        """The options of a site of a layer: `defaults`, but for what the file says."""
        for table in self._tables(layer, site):
            defaults = replace(defaults, **table)
        return defaults

    def place(self, layer: int, site: str, option: str) -> str | None:
        """The file, and the line if that is found, where it is what sets an option of a site of a layer: for errors."""
        names = ((), ("sites", site), ("layers", str(layer)), ("layers", str(layer), "sites", site))
        setting = [name for name, table in zip(names, self._tables(layer, site), strict=True) if option in table]
        if not setting:
            return None
        return place_in(self.path, *setting[-1], option)

    def _tables(self, layer: int, site: str) -> tuple[Mapping[str, Any], ...]:
        """What the file says of a site of a layer, the more exact after the less."""
        return (
            self.everywhere,
            self.by_site.get(site, {}),
            self.by_layer.get(layer, {}),
            self.by_place.get((layer, site), {}),
        )

    def sets(self, option: str) -> bool:
        """Whether the file has the option anywhere."""
        tables = (self.everywhere, *self.by_site.values(), *self.by_layer.values(), *self.by_place.values())
        return any(option in table for table in tables)


def layer_number(name: str, table: str, path: str) -> int:
    """The layer of a table such as `[layers.14]`; one way to write it, so that no two tables are for the same layer.

    Raises:
        DcomError: the name is no number, or has zeros before it.
    """
    if not re.fullmatch("0|[1-9][0-9]{0,8}", name):
        hint = "write a layer's number" + (", without zeros before it" if name.startswith("0") else "")
        raise DcomError(f"[{table}.{name}] names no layer", hint=hint, place=place_in(path, table, name))
    return int(name)


def _list(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values)))


_EXAMPLES = {"layers": "layers.14", "sites": "sites.o"}
"""Tables that hold tables, with one of these."""


def _table(value: object, path: str, *keys: str) -> dict[str, object]:
    name = ".".join(keys)
    if not isinstance(value, dict):
        hint = f"write [{_EXAMPLES.get(name, name)}] and keys under it"
        raise DcomError(f"{name} is {as_written(value)}, not a table", hint=hint, place=place_in(path, *keys))
    return dict(cast(dict[str, object], value))


def _sites(value: object, path: str, *above: str) -> dict[str, Mapping[str, Any]]:
    keys = (*above, "sites")
    tables = _table(value, path, *keys)
    for site in tables:
        if site not in SITES:
            what = f"unknown site '{site}' in [{'.'.join(keys)}]"
            raise DcomError(what, hint=unknown_site(site), place=place_in(path, *keys, site))
    return {site: _options(_table(table, path, *keys, site), path, *keys, site) for site, table in tables.items()}


def _check_type(name: str, option: str, value: object, place: str | None = None) -> None:
    """Raise `DcomError` where the value of an option, a field of `SiteOptions`, is not of its type."""
    hint = get_type_hints(SiteOptions)[option]
    wanted = next(type_ for type_ in get_args(hint) or (hint,) if type_ is not NoneType)
    accepted = (int, float) if wanted is float else (wanted,)
    optional = value is None and NoneType in get_args(hint)
    if not optional and (not isinstance(value, accepted) or isinstance(value, bool) != (wanted is bool)):
        words = {int: "an integer", float: "a number", bool: "true or false", str: "a word"}
        raise DcomError(f"{name} is {as_written(value)}", hint=f"expected {words[wanted]}", place=place)


def _options(table: Mapping[str, object], path: str, *above: str) -> Mapping[str, Any]:
    """`table` once its keys are fields of `SiteOptions`, with values of their types."""
    known = [option.name for option in fields(SiteOptions)]
    tables = () if "sites" in above else ("sites",) if above else ("layers", "sites")
    sites = {site: f"sites.{site}" for site in SITES if tables}
    for key, value in table.items():
        name = ".".join((*above, key))
        try:
            if key not in known:
                raise DcomError(f"unknown key '{name}'", hint=did_you_mean(key, [*known, *tables], sites))
            _check_type(name, key, value)
            if key in LIMITS:
                check_limits(key, cast(float, value))
            if key in CHOICES:
                check_choice(key, cast(str, value))
        except DcomError as error:
            raise DcomError(error.what, hint=error.hint, place=place_in(path, *above, key)) from error
    return dict(table)
