"""The lm-evaluation-harness on a program: the same numbers as `dcomc eval`, on local questions and texts."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import compiled, words
from lm_eval.api.instance import Instance

from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.harness import CompiledLM

ROOT = Path(__file__).parents[2]
ROWS = [
    {"question": words(4, seed), "choices": [words(1 + n, 9 * seed + n) for n in range(3)], "answer": seed % 3}
    for seed in range(1, 9)
]
TASK = """
task: local_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@pytest.fixture(scope="module")
def program(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(model, tmp_path_factory.mktemp("program"))


def dcomc_eval(folder: Path, task: str, data: Path, program: Path, model: Path) -> Any:
    output = folder / "eval.json"
    arguments = [str(program), "--model", str(model), f"--task={task}", "--data", str(data), "--no-controls"]
    assert main(["eval", *arguments, "--json", str(output)]) == 0
    return json.loads(output.read_text())["models"]["program"]


def requests(kind: Any, *arguments: tuple[str, ...]) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def test_the_harness_says_of_questions_what_eval_says(model: Path, program: Path, tmp_path: Path) -> None:
    """By its own command, with a task of a local file."""
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "task.yaml").write_text(TASK.format(data=data))
    command = ["-m", "dcomc.harness", "run", "--model=dcomc", f"--model_args=program={program},model={model}"]
    options = ["--tasks=local_questions", f"--include_path={tmp_path}", f"--output_path={tmp_path / 'result.json'}"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, *options], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = tmp_path.glob("result*.json")
    found = json.loads(result.read_text())["results"]["local_questions"]
    expected = dcomc_eval(tmp_path, "arc_easy", data, program, model)
    for name in ("acc", "acc_norm"):
        assert found[f"{name},none"] == pytest.approx(expected[name]["value"])


def test_log_likelihoods_are_those_of_eval(model: Path, program: Path, tmp_path: Path) -> None:
    texts = [words(7, seed) for seed in range(5)]
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    expected = dcomc_eval(tmp_path, "lambada", data, program, model)
    lm = CompiledLM(program=str(program), model=str(model))
    pairs = [tuple(text.rsplit(" ", 1)) for text in texts]
    found = lm.loglikelihood(requests("loglikelihood", *((context, f" {word}") for context, word in pairs)))
    assert np.exp(-np.mean([likelihood for likelihood, _ in found])) == pytest.approx(
        expected["perplexity"]["value"], rel=1e-5
    )
    assert np.mean([greedy for _, greedy in found]) == expected["acc"]["value"]


def test_a_long_text_is_predicted_token_by_token_once(model: Path, program: Path) -> None:
    """In pieces of a prompt's tokens, of which the last is filled up with tokens that were predicted before."""
    lm = CompiledLM(model=str(model), seq_len=16)
    lm._tokenizer = copy.deepcopy(lm._tokenizer)  # others have it too
    lm._tokenizer.bos_token = "w9"
    assert lm.eot_token_id == 9
    text = words(40)
    (found,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    tokens = [9, *lm.tok_encode(text)]
    pieces = [(tokens[:16], 1), (tokens[15:31], 1), (tokens[25:41], 6)]
    total = 0.0
    for piece, first in pieces:
        context, rest = (" ".join(f"w{token}" for token in part) for part in (piece[:first], piece[first:]))
        ((likelihood, _),) = lm.loglikelihood(requests("loglikelihood", (context, f" {rest}")))
        total += likelihood
    assert found == pytest.approx(total, rel=1e-5)
    ((alone, _),) = lm.loglikelihood(requests("loglikelihood", ("", "w1 w2")))
    ((same, _),) = lm.loglikelihood(requests("loglikelihood", ("w9", " w1 w2")))
    assert alone == pytest.approx(same)


def test_what_the_harness_cannot_ask(model: Path, program: Path) -> None:
    lm = CompiledLM(program=str(program), model=str(model), batch_size=1, max_batch_size=None)
    with pytest.raises(DcomError, match="a compiled program does not generate"):
        lm.generate_until([])
    with pytest.raises(DcomError, match="the tokenizer has no token for the beginning or the end"):
        lm.loglikelihood(requests("loglikelihood", ("", "w1")))
    with pytest.raises(DcomError, match="a continuation of 20 tokens leaves no context in prompts of 16"):
        lm.loglikelihood(requests("loglikelihood", ("w1", f" {words(20)}")))
    with pytest.raises(DcomError, match="no model given"):
        CompiledLM(program=str(program))


def test_without_the_harness_is_one_line() -> None:
    hidden = "import runpy, sys; sys.modules['lm_eval'] = None; runpy.run_module('dcomc.harness', run_name='__main__')"
    found = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert "error: cannot import lm_eval, which the lm-evaluation-harness needs" in found.stderr
