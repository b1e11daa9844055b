"""What a checkpoint must be: whole, of the shapes that its configuration says, finite, and not quantised."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc.diagnostics import DcomError, counted, readable

if TYPE_CHECKING:
    import torch

_NAMED = 3
"""Tensors that a message names."""


def check_not_quantised(name: str, config: Mapping[str, Any]) -> None:
    """Raise `DcomError` where a configuration says that the weights are quantised, and so no plain matrices."""
    quantisation: object = config.get("quantization_config")
    if quantisation is None:
        return
    method = cast(Mapping[str, Any], quantisation).get("quant_method") if isinstance(quantisation, dict) else None
    raise DcomError(
        f"the weights of {name} are quantised" + (f" ({method})" if method else ""),
        hint="give the model from before its quantisation, or a GGUF file, which is dequantised",
    )


def check_loaded(path: Path, found: Mapping[str, Any]) -> None:
    """Hold what transformers says of loading a checkpoint against what the model needs.

    Transformers makes up random numbers for what is missing. What the model does not use is said on stderr.

    Args:
        path: of the checkpoint, for messages.
        found: the loading information of `from_pretrained`.

    Raises:
        DcomError: weights are missing or have another shape than the configuration says.
    """
    missing = cast(Collection[str], found["missing_keys"])
    if missing:
        what = f"{readable(path)} lacks {counted(len(missing), 'tensor')} of the model: {some_of(missing)}"
        raise DcomError(what, hint="copy the whole checkpoint, with the config.json that belongs to it")
    for name, has, wanted in sorted(found["mismatched_keys"]):
        what = f"{name} in {readable(path)} has shape {list(has)}, but the configuration says {list(wanted)}"
        raise DcomError(what, hint="give the config.json that belongs to the checkpoint")
    unused = cast(Collection[str], found["unexpected_keys"])
    if unused:
        what = f"{counted(len(unused), 'tensor')} of {readable(path)} that the model does not use"
        print(f"note: left out {what}: {some_of(unused)}", file=sys.stderr)


def check_finite(module: "torch.nn.Module") -> None:
    """Look at every weight: a library's fused attention may hide a NaN, and give a text and a perplexity all the same.

    Finding the least and the largest value takes some hundredths of the time of loading.

    Raises:
        DcomError: a weight with a NaN or an infinity.
    """
    for name, weight in module.named_parameters():
        if weight.numel() and not all(bool(end.isfinite()) for end in weight.detach().aminmax()):
            narrow = str(weight.dtype) == "torch.float16"
            hint = "copy the checkpoint again" + (", or take bf16 or f32: f16 ends at 65,504" if narrow else "")
            raise DcomError(f"NaN or infinity in weight '{name}'", hint=hint)


def describe_folder(folder: Path) -> tuple[str, str]:
    """What a folder without config.json is, and what to give instead."""
    if (folder / "adapter_config.json").is_file():
        what = "is an adapter, not a model"
        return what, "merge it into its model (`merge_and_unload()` of peft) and give the folder of that"
    snapshots = sorted(each for each in folder.glob("snapshots/*") if (each / "config.json").is_file())
    if snapshots:
        return "is a folder of the hub's cache", f"give the one of a snapshot, {readable(snapshots[-1])}"
    return "has no config.json", "give a Hugging Face model folder, a GGUF file or a preset"


def folder_name(folder: Path) -> str:
    """What to call the model of a folder: its name, or for a snapshot in the hub's cache that of the repository."""
    whole = folder.resolve()
    repository = whole.parent.parent.name
    if whole.parent.name == "snapshots" and repository.startswith("models--"):
        return readable(repository.split("--")[-1])
    return readable(whole.name)


def cause(error: Exception) -> str:
    """Why a library failed, in one line without its full stop.

    They put it first, but validation of configurations puts it last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if type(error).__name__.startswith("StrictDataclass") else 0].removesuffix(".")


def some_of(names: Collection[str]) -> str:
    """The first few of some names, and how many more there are."""
    listed = ", ".join(sorted(names)[:_NAMED])
    return listed + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
