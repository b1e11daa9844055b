"""JSON files that a user names."""

import json
from pathlib import Path
from typing import Any, cast

from dcomc.diagnostics import DcomError


def read_bytes(path: Path, hint: str) -> bytes:
    """A file's bytes; raises `DcomError`, with the hint, where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint=hint) from error


def json_object(data: bytes, path: Path, hint: str) -> dict[str, Any]:
    """The object that a file's bytes are; raises `DcomError`, with the hint, where they are none."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DcomError(f"{path} holds no JSON", hint=hint) from error
    if not isinstance(value, dict):
        raise DcomError(f"{path} holds no JSON object", hint=hint)
    return cast(dict[str, Any], value)
