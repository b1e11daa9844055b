"""Fixtures of the driver's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcomc.cli import main


@pytest.fixture(scope="session")
def tiny_ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Level 0 IR of the preset `tiny`: 4 layers of 64 channels (160 in the MLP), 2 prompts of 24 tokens."""
    path = tmp_path_factory.mktemp("traced") / "tiny.mlir"
    assert main(["trace", "tiny", "--seq-len", "24", "--batch", "2", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def tiny_program(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prog.bin of `tiny` with layers 1 and 2 decomposed alike, rank 4, and beside it `stages`, the IR of each pass."""
    folder = tmp_path_factory.mktemp("compiled")
    options = ["--decompose-layers=1-2", "--rank=4", "--iterations=6", "--dump-ir-dir", str(folder / "stages")]
    assert main(["compile", str(tiny_ir), *options, "-o", str(folder / "prog.bin")]) == 0
    return folder / "prog.bin"


@pytest.fixture(scope="session")
def one_layer(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prog.bin of `tiny` with layer 1 decomposed, 2 prompts of 24 tokens: three launches of 64 channels, one of 160."""
    path = tmp_path_factory.mktemp("compiled") / "prog.bin"
    assert main(["compile", str(tiny_ir), "--decompose-layers", "1", "--rank", "4", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small Llama with random weights; it is not to be changed."""
    from checkpoints import save_model  # and torch

    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `dcomc` with wrong arguments, which ends in exit code 1 and one line on stderr; gives that line."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([*map(str, arguments)]) == 1
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.count("\n") == 1 and streams.err.endswith("\n") and "error: " in streams.err
        return streams.err

    return run
