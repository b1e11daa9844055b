"""EleutherAI's lm-evaluation-harness on compiled programs: `python -m dcomc.harness run --model dcomc …`.

That is the harness's own command, `lm_eval`, to which the model `dcomc` is known; importing this module makes it known
to a program that uses the harness. Arguments of the model: `program` (made by `dcomc compile`) and `model`, the one
that was traced; without a program, `model` runs dense in prompts of `seq_len` tokens. Data are local: nothing is
downloaded.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from dcomc.cli import guard
from dcomc.comparison import PROGRAM, build_models, check_weights, decompositions, describe
from dcomc.configuration import check_configuration
from dcomc.container import read_program
from dcomc.diagnostics import DcomError, cannot_import
from dcomc.encode import check_launches
from dcomc.evaluate import Forward, Prompt, PromptScore, Scores, dense_forward, make_windows, torch_weights
from dcomc.factors import check_factors
from dcomc.ir import parse_module
from dcomc.model import Model, resolve_model
from dcomc.progress import speaker
from runtime.executor_arrays import make_arrays

os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})


def _run() -> int:
    import_module("dcomc.harness")  # all that follows, which may raise DcomError
    import_module("lm_eval.__main__").cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(guard(_run))

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    registry: Any = import_module("lm_eval.api.registry")
except ImportError as error:
    raise cannot_import(error.name, "the lm-evaluation-harness", "harness") from error

_BATCH = 4


class CompiledLM(TemplateLM):
    """A program, or a dense model, as the harness asks it: log-likelihoods, not generations."""

    def __init__(
        self, model: str = "", program: str | None = None, seq_len: int = 512, device: str = "cpu", **_: object
    ) -> None:
        """Load.

        Args:
            model: Hugging Face folder, GGUF file, or preset: the one that was traced.
            program: a file made by `dcomc compile`; its decompositions run in float32 on the host.
            seq_len: tokens of a prompt, without a program.
            device: where torch computes; the harness's default, `cuda:0`, is the CPU where there is no GPU.

        Raises:
            DcomError: a program that is damaged, or not of this model.
        """
        super().__init__()
        if not model:
            raise DcomError("no model given", hint="--model_args program=prog.bin,model=MODEL")
        if device == "cuda:0" and not torch.cuda.is_available():
            device = "cpu"
        whole = resolve_model(model).with_weights()
        self._tokenizer: Any = whole.tokenizer()
        self._batch, self._seq_len = _BATCH, int(seq_len)
        if program is None:
            self._forward = dense_forward(whole.torch_model("f32"), device)
        else:
            self._forward, self._batch, self._seq_len = _compiled(program, whole, device)

    @property
    def eot_token_id(self) -> int:
        """What stands before a text that has no context: the first token of a text, or else the last.

        Raises:
            DcomError: the tokenizer has neither.
        """
        for name in ("bos_token_id", "eos_token_id"):
            token: int | None = getattr(self._tokenizer, name, None)
            if token is not None:
                return token
        raise DcomError("the tokenizer has no token for the beginning or the end", hint="give tasks with a context")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """The tokens of a text; those that the tokenizer adds by itself are left out where that is asked for."""
        if add_special_tokens is None:
            return self._tokenizer.encode(string)
        return self._tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: object
    ) -> list[tuple[float, bool]]:
        return [(-score.loss, score.greedy) for score in self._scores((context, rest) for _, context, rest in requests)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text, in pieces that a prompt holds, each token predicted once."""
        results: list[float] = []
        for request in requests:
            pieces = get_rolling_token_windows(
                self.tok_encode(cast(tuple[str], request.args)[0]), self.eot_token_id, self._seq_len - 1, context_len=1
            )
            results.append(-sum(score.loss for score in self._scores(map(make_disjoint_window, pieces))))
        return results

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Not for programs, whose prompts have one length.

        Raises:
            DcomError: always.
        """
        what = "a compiled program does not generate"
        raise DcomError(what, hint="take tasks of log-likelihoods, or a model by dcomc.hf with the harness's own `hf`")

    def _scores(self, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Iterator[PromptScore]:
        """The scores of what follows each context; pairs that are too long lose their first tokens."""
        prompts: list[Prompt] = []
        for context, rest in pairs:
            if len(rest) >= self._seq_len:
                what = f"a continuation of {len(rest)} tokens leaves no context in prompts of {self._seq_len}"
                raise DcomError(what, hint="compile for longer prompts")
            tokens = [*context, *rest][-self._seq_len :]
            prompts.append(Prompt(tokens, len(tokens) - len(rest)))
        scores = Scores()
        for window in make_windows(prompts, self._batch, self._seq_len):
            logits = self._forward(window)
            scores.add(window, logits, logits, "the model")
        return iter(scores.prompts)


def _compiled(path: str, model: Model, device: str) -> tuple[Forward, int, int]:
    """A program on a model's weights, and its prompts and tokens."""
    program = read_program(Path(path))
    if not program.host.strip():
        raise DcomError("the program holds no model, only kernels", hint="compile a traced model")
    module = parse_module(program.host, ".dcom.host")
    check_launches(program, module)
    described, factors = describe(module), check_factors(module, program.factors)
    weights = {**torch_weights(model.torch_model("f32")), **factors}
    check_weights(module, weights)
    check_configuration(module, model, speaker(True))
    arrays = make_arrays("torch", device)
    forward = build_models(module, weights, arrays, decompositions(program, None, arrays), ())[PROGRAM]
    return forward, described.batch, described.seq_len


registry.register_model("dcomc")(CompiledLM)
