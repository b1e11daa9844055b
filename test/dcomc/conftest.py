"""Fixtures of the driver's tests."""

from pathlib import Path

import pytest

from dcomc.cli import main


@pytest.fixture(scope="session")
def tiny_ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Level 0 IR of the preset `tiny`: 4 layers of 64 channels (160 in the MLP), 2 prompts of 24 tokens."""
    path = tmp_path_factory.mktemp("traced") / "tiny.mlir"
    assert main(["trace", "tiny", "--seq-len", "24", "--batch", "2", "-o", str(path)]) == 0
    return path
