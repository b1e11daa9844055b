"""Small checkpoints on disk, with tokenizers of their own, and texts for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dcomc.cli import main
from dcomc.model import resolve_model

WORDS = [f"w{number}" for number in range(256)]


def save_model(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint as transformers writes it, with a tokenizer of 256 words."""
    torch.manual_seed(seed)
    # Initial weights of 0.2 make logits of a few units, so that perplexities differ.
    config = LlamaConfig(**{**resolve_model("tiny").config(), "initializer_range": 0.2, **changes})
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    return folder


def words(count: int, seed: int = 0) -> str:
    """A text of so many words of the tokenizer."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, count))


def compiled(model: Path, folder: Path) -> Path:
    """Two of four layers decomposed, two prompts of 16 tokens."""
    source, program = folder / "m.mlir", folder / "prog.bin"
    assert main(["trace", str(model), "--seq-len=16", "--batch=2", "-o", str(source)]) == 0
    options = ["--decompose-layers=1,2", "--sites=qkv,o", "--rank=2", "--iterations=4"]
    assert main(["compile", str(source), *options, "-o", str(program)]) == 0
    return program
