"""Second moments of a model's activations over a text: what `dcomc statistics` collects and whitening needs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dcomc.diagnostics import DcomError
from dcomc.roles import role_of
from dcomc.weights import Array, SafetensorsWeights, weight_digest, write_safetensors

if TYPE_CHECKING:
    import torch

    from dcomc.evaluate import Window
    from dcomc.model import Model

FORMAT = "dcomc statistics 2"
_HINT = "make it again by `dcomc statistics`"


@dataclass(frozen=True)
class Statistics:
    """The second moments of sites' inputs X: X^T X summed over all tokens, or its diagonal alone."""

    moments: Mapping[str, Array]
    """[H, H], or [H] where only the diagonal was collected, float32, by `layer10.qkv`."""
    model: str
    tokens: int
    weights: Mapping[str, Sequence[str]]
    """The digests (`dcomc.weights.weight_digest`) of the weights that each site's input is multiplied by."""
    path: str = ""
    """The file that they come from."""

    @staticmethod
    def read(path: str) -> "Statistics":
        """Read a file; its moments are mapped, and read when asked for.

        Raises:
            DcomError: it is missing, damaged, or holds something else.
        """
        tensors = SafetensorsWeights(Path(path), hint=_HINT)
        if tensors.metadata.get("format") != FORMAT:
            raise DcomError(f"{path} holds no statistics", hint=_HINT)
        try:
            tokens, weights = int(tensors.metadata["tokens"]), json.loads(tensors.metadata["weights"])
        except (KeyError, ValueError) as error:
            raise DcomError(f"{path} holds no statistics", hint=_HINT) from error
        return Statistics(tensors, tensors.metadata.get("model", ""), tokens, weights, path)

    def write(self, path: Path) -> None:
        """Write a file; raises `DcomError` where that fails."""
        metadata = {
            "format": FORMAT,
            "model": self.model,
            "tokens": str(self.tokens),
            "weights": json.dumps(self.weights),
        }
        write_safetensors(path, self.moments, metadata)

    def for_weight(self, layer: int, site: str, weight: Array) -> Array:
        """The moments of the inputs of a weight [N, H] of a site.

        Raises:
            DcomError: they are not there, or of another model: one whose weights are others.
        """
        moments = self.of(layer, site, weight.shape[1])
        if weight_digest(weight) not in self.weights.get(f"layer{layer}.{site}", ()):
            what = f"the statistics are of another model{f', {self.model}' if self.model else ''}: site {site} of layer"
            raise DcomError(
                f"{what} {layer} has other weights there",
                hint="collect them from the model that is given",
                place=self.path or None,
            )
        return moments

    def of(self, layer: int, site: str, channels: int) -> Array:
        """The moments of a site of `channels` channels.

        Raises:
            DcomError: they are not there, or of another number of channels.
        """
        key = f"layer{layer}.{site}"
        if key not in self.moments:
            raise DcomError(
                f"there are no statistics of site {site} of layer {layer}",
                hint="collect them with `dcomc statistics --layers … --sites …`",
                place=self.path or None,
            )
        found = self.moments[key]
        if found.shape not in ((channels,), (channels, channels)):
            what = f"the statistics of {key} have shape {list(found.shape)}, but the site has {channels} channels"
            raise DcomError(what, hint="collect them from the model that was traced", place=self.path or None)
        return found


def collect(
    model: "Model",
    windows: "Sequence[Window]",
    places: Sequence[tuple[int, str]],
    *,
    diagonal: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Run the dense model over the windows and add up the second moments of chosen sites' inputs.

    Memory beside the model: H x H float32 a site, or H with `diagonal`, however long the text.

    Args:
        model: with weights.
        windows: tokens; padding does not count.
        places: layers and sites.
        diagonal: collect only the diagonals.
        progress: called with the number of each window before it runs.

    Raises:
        DcomError: the model has no such layer or site, or its activations are not finite.
    """
    import torch

    module = model.torch_model("f32")
    moments: dict[str, torch.Tensor] = {}
    weights: dict[str, list[str]] = {}
    valid: list[Sequence[int]] = [()]

    def adder(key: str) -> Callable[..., None]:
        def add(_: "torch.nn.Module", arguments: "tuple[torch.Tensor, ...]") -> None:
            prompts = zip(arguments[0], valid[0], strict=True)
            x = torch.cat([prompt[:rows] for prompt, rows in prompts]).float()
            if diagonal:
                moments.setdefault(key, x.new_zeros(x.shape[1])).add_(x.square().sum(0))
            else:
                moments.setdefault(key, x.new_zeros(x.shape[1], x.shape[1])).addmm_(x.T, x)

        return add

    with ExitStack() as stack, torch.inference_mode():
        for layer, site in places:
            readers = projections(module, layer, site)
            hook = readers[0].register_forward_pre_hook(adder(f"layer{layer}.{site}"))
            stack.callback(hook.remove)
            matrices = (cast("torch.Tensor", projection.weight) for projection in readers)
            weights[f"layer{layer}.{site}"] = [weight_digest(cast(Array, matrix.numpy())) for matrix in matrices]
        for number, window in enumerate(windows):
            if progress is not None:
                progress(number)
            valid[0] = window.valid
            module(torch.from_numpy(window.tokens), use_cache=False)
    for key, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise DcomError(f"NaN or infinity in the activations of {key}", hint="look for damage in the weights")
    tokens = sum(sum(window.valid) for window in windows)
    return Statistics({key: moment.numpy() for key, moment in moments.items()}, model.name, tokens, weights)


def projections(module: "torch.nn.Module", layer: int, site: str) -> "list[torch.nn.Module]":
    """The modules of a model of transformers that read a site's input.

    Raises:
        DcomError: the model has no such layer, or the layer no such projection.
    """
    import torch

    from passes._sites import ROLES

    lists = (part for part in module.modules() if isinstance(part, torch.nn.ModuleList))
    layers = list(next(lists, torch.nn.ModuleList()))
    if not 0 <= layer < len(layers):
        raise DcomError(f"layer {layer} does not exist", hint=f"the model has layers 0 to {len(layers) - 1}")
    named = cast("Iterator[tuple[str, torch.nn.Module]]", layers[layer].named_modules())
    found = [part for name, part in named if role_of(name) in ROLES[site]]
    if found:
        return found
    raise DcomError(f"layer {layer} has no projection of site {site}", hint=f"known: {', '.join(ROLES[site])}")
