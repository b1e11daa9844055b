"""Files of token ids, for a model whose tokenizer is not at hand."""

import re
from pathlib import Path

from dcomc.activations import load_arrays
from dcomc.diagnostics import DcomError

_HINT = "give ids between spaces or commas, a JSON list, or an .npy file of one dimension"


def read_tokens(path: str) -> list[int]:
    """The ids in a file: numbers between white space or commas, a JSON list of them, or an .npy file [tokens].

    Raises:
        DcomError: the file cannot be read or holds something else.
    """
    if path.endswith(".npy"):
        array = load_arrays(path).get("")
        if array is None or array.ndim != 1 or array.dtype.kind not in "iu":
            raise DcomError(f"{path} holds no list of token ids", hint=_HINT)
        return [int(number) for number in array]
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise DcomError(f"{path} is not UTF-8 text", hint=_HINT) from error
    parts = [part for part in re.split(r"[\s,]+", re.sub(r"^\[(.*)\]$", r"\1", text, flags=re.DOTALL)) if part]
    wrong = next((part for part in parts if not re.fullmatch(r"[0-9]{1,18}", part)), None)
    if wrong is not None:
        raise DcomError(f"'{wrong[:20]}' in {path} is no token id", hint=_HINT)
    return [int(part) for part in parts]
