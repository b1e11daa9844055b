"""Hugging Face models whose chosen layers work on low-rank factors of their activations: generate, save, load.

    model = dcomc.hf.decompose(model, dcomc.Decomposition(layers=(14, 18), rank=10, outliers=3.0, block=64))
    model.generate(...)
    model.save_pretrained("decomposed")
    model = dcomc.hf.load("decomposed")

The definition is that of the compiler's passes, in float32, for prompts of any length: what `dcomc eval` gives of a
program compiled with the same options for prompts of that length. It is there to see what a model becomes; products
are those of dense matrices, and no faster. Of a generation the prompt is decomposed, in one piece. A later step sees
one token, which any rank holds, and is exact. Gradients do not pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch.utils.hooks import RemovableHandle

from dcomc.config import SiteOptions
from dcomc.diagnostics import DcomError
from dcomc.model import load_transformers
from dcomc.pipeline import Decomposition
from dcomc.statistics import projections
from dialects.dcom import SITES, unknown_site
from passes._sites import check_reuse, check_sites, read_config
from passes._thresholds import Thresholds, read_number
from runtime.approximation import Basis, Threshold, approximate

KEY = "dcom"
"""The attribute of a model's configuration that says what is decomposed."""
_HANDLES = "dcom_handles"
"""The attribute of a model that keeps its hooks; a copy of the model has those of its own."""

Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class SitePlan:
    """What is done at one site of one layer."""

    options: SiteOptions
    threshold: Threshold | None = None


Plan = Mapping[tuple[int, str], SitePlan]
"""By layer and site, in the order of the layers and of the sites in them."""


def decompose(model: Module, config: Decomposition) -> Module:
    """Let chosen layers of a model of transformers work on low-rank factors, from its next call on.

    What a model was decomposed with before no longer holds. Padding of a batch, by the `attention_mask`, is kept out.

    Args:
        model: a causal language model of the Llama family, which is changed; its weights stay as they are.
        config: what to decompose, as `dcomc compile` takes it.

    Returns:
        The model. `save_pretrained` writes the plan into its config.json, where `load` finds it.

    Raises:
        DcomError: a layer, site or option that the model or the compiler does not have.
    """
    if config.of_weights() is not None:
        raise DcomError("weights in factors are not for models of transformers", hint="compile a program")
    _attach(model, make_plan(config))
    return model


def restore(model: Module) -> Module:
    """Let a model work on its dense activations again; returns it."""
    for handle in cast("list[RemovableHandle]", getattr(model, _HANDLES, [])):
        handle.remove()
    if hasattr(model, _HANDLES):
        delattr(model, _HANDLES)
    if hasattr(model.config, KEY):
        delattr(model.config, KEY)
    return model


def load(folder: str | Path) -> torch.nn.Module:
    """A model that was saved after `decompose`, decomposed again, in evaluation mode on the CPU.

    Raises:
        DcomError: transformers cannot load it, or its configuration has no plan.
    """
    transformers = load_transformers()
    try:
        model: torch.nn.Module = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DcomError(f"cannot load {folder}: {str(error).splitlines()[0]}", hint="give a model folder") from error
    stored: object = getattr(model.config, KEY, None)
    _attach(model, _read_plan(stored, f"{folder}/config.json"))
    return model.eval()


def make_plan(config: Decomposition) -> dict[tuple[int, str], SitePlan]:
    """What is done at each layer and site that is decomposed at all.

    Raises:
        DcomError: an unknown site, an option out of range, or a file of options or thresholds that does not fit.
    """
    sites = check_sites(config.sites)
    reuse = check_reuse(config.reuse, sites)
    table = Thresholds.read(config.outliers) if isinstance(config.outliers, str) else None
    file = read_config(config.config)
    file.check(config.layers, sites)
    if table is not None and file.sets("outliers"):
        raise DcomError("give outliers in the config or a thresholds table, not both", place=config.config)
    defaults: dict[str, Any] = {
        each.name: getattr(config, each.name) for each in fields(SiteOptions) if hasattr(config, each.name)
    }
    defaults["outliers"] = table.capacity_percent if table else config.outliers
    defaults["reuse"] = False
    everywhere = SiteOptions(**defaults)
    plan: dict[tuple[int, str], SitePlan] = {}
    for layer in config.layers:
        for site in sites:
            options = file.options(layer, site, replace(everywhere, reuse=site in reuse))
            if options.decompose:
                _check(plan, layer, site, options, lambda option, at=(layer, site): file.place(*at, option))
                threshold = Threshold(table.of(layer, site), table.min_tokens_percent) if table else None
                plan[layer, site] = SitePlan(options, threshold)
    return plan


def _check(plan: Plan, layer: int, site: str, options: SiteOptions, place: Callable[[str], str | None]) -> None:
    """Raise `DcomError` where options cannot be those of the next site of a plan."""
    options.check(where=f"site {site} of layer {layer}", place=place)
    if options.reuse and not any((layer, before) in plan for before in SITES):
        raise DcomError(
            f"site {site} of layer {layer} reuses a basis, but no site before it has one",
            hint="decompose one before it",
            place=place("reuse"),
        )


@dataclass
class _Prompts:
    """What all layers need to know of a call."""

    layers: "dict[int, _Layer]"
    """The layers that have a decomposed site, by number."""
    padding: torch.Tensor | None = None
    """[B, S] bool: rows that are none of the prompts'."""

    def __call__(self, _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the decoder runs: look at its mask, and forget a call that was interrupted."""
        for layer in self.layers.values():
            layer()
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        flat = isinstance(mask, torch.Tensor) and mask.ndim == 2
        self.padding = cast(torch.Tensor, mask) == 0 if flat else None


@dataclass
class _Layer:
    """A layer in a call: what its sites have become so far."""

    bases: dict[int, Basis] = field(default_factory=dict[int, Basis])
    """The bases of the first site that was decomposed: under 0 that of all prompts together, or one for each prompt
    where some are padded."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict[str, Any])
    """The last input of each site and its approximation, for the next projection that reads the same input."""

    def __call__(self, *_: Any) -> None:
        """After the layer ran, or failed: forget."""
        self.bases.clear()
        self.seen.clear()


@dataclass(frozen=True)
class _Site:
    """A projection of a site, before it runs."""

    layer: int
    site: str
    plan: SitePlan
    state: _Layer
    prompts: _Prompts

    def __call__(self, _: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        x = args[0]
        if x.shape[1] == 1:
            return args
        given, made = self.state.seen.get(self.site, (None, x))
        if given is not x:
            with torch.no_grad():
                made = self._approximate(x)
            self.state.seen[self.site] = x, made
        return (made, *args[1:])

    def _approximate(self, x: torch.Tensor) -> torch.Tensor:
        """The approximation of x [B, S, H]; a padded prompt is taken on its own, and its padding stays as it is."""
        padding = self.prompts.padding
        if padding is None or not bool(padding.any()):
            return self._approximate_prompts(0, x)
        whole = x.clone()
        for number, rows in enumerate(~padding[:, -x.shape[1] :]):
            if bool(rows.any()):
                whole[number, rows] = self._approximate_prompts(number, x[number : number + 1, rows])[0]
        return whole

    def _approximate_prompts(self, number: int, x: torch.Tensor) -> torch.Tensor:
        if not bool(torch.isfinite(x).all()):
            what = f"NaN or infinity in the activations of layer {self.layer}, site {self.site}"
            raise DcomError(what, hint="look for damage in the weights")
        made, basis = approximate(x, self.plan.options, self.plan.threshold, self.state.bases.get(number))
        self.state.bases.setdefault(number, basis)
        return made


def _attach(model: torch.nn.Module, plan: Plan) -> None:
    """Hook a plan into a model and write it into its configuration."""
    found = {(layer, site): projections(model, layer, site) for layer, site in plan}
    restore(model)
    decoder, layers = _decoder(model)
    states: dict[int, _Layer] = {}
    prompts = _Prompts(states)
    handles = [decoder.register_forward_pre_hook(cast(Callable[..., None], prompts), with_kwargs=True)]
    for (layer, site), readers in found.items():
        if layer not in states:
            states[layer] = _Layer()
            handles.append(layers[layer].register_forward_hook(states[layer], always_call=True))
        hook = _Site(layer, site, plan[layer, site], states[layer], prompts)
        handles += [reader.register_forward_pre_hook(hook) for reader in readers]
    setattr(model, _HANDLES, handles)
    setattr(model.config, KEY, {f"{layer}.{site}": asdict(each) for (layer, site), each in plan.items()})


def _decoder(model: torch.nn.Module) -> tuple[torch.nn.Module, list[torch.nn.Module]]:
    """What calls the layers, be it the model itself or within it, and the layers."""
    lists = (
        (part, list(child))
        for part in model.modules()
        for child in part.children()
        if isinstance(child, torch.nn.ModuleList)
    )
    return next(lists)


def _read_plan(stored: object, place: str) -> dict[tuple[int, str], SitePlan]:
    """The plan of a configuration; raises `DcomError` where it is none."""
    if not isinstance(stored, dict):
        raise DcomError(f"the model has no '{KEY}' in its configuration", hint="decompose and save it", place=place)
    plan: dict[tuple[int, str], SitePlan] = {}
    entries = cast(dict[str, Any], stored)
    for name in entries:
        layer, _, site = name.partition(".")
        if not layer.isdecimal() or site not in SITES:
            raise DcomError(f"'{KEY}' has '{name}'", hint=unknown_site(site), place=place)
    order = list(SITES)
    for name in sorted(entries, key=lambda name: order.index(name.partition(".")[2])):
        layer, _, site = name.partition(".")
        try:
            options, threshold = SiteOptions(**entries[name]["options"]), entries[name]["threshold"]
            numbers = None if threshold is None else Threshold(**threshold)
        except (LookupError, TypeError) as error:
            raise DcomError(f"'{KEY}' has no plan for {name}", hint="decompose and save anew", place=place) from error
        _check(plan, int(layer), site, options, lambda option: place)
        if numbers is not None:
            read_number(numbers.magnitude, "magnitude", place)
            read_number(numbers.min_tokens_percent, "min_tokens_percent", place, highest=100.0)
        plan[int(layer), site] = SitePlan(options, numbers)
    return plan
