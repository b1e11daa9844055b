"""`dcomc eval`: encodings and scores against plain torch, intervals, local and packaged data, mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import compiled, save_model, words

from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.documents import read_documents
from dcomc.evaluate import PromptScore, Scores
from dcomc.evaluation.metrics import Metric, paired
from dcomc.evaluation.questions import Question, local_last_words, local_questions, packaged_questions, with_examples
from dcomc.evaluation.tasks import LastWord, MultipleChoice
from dcomc.model import resolve_model


@pytest.fixture(scope="module")
def program(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(model, tmp_path_factory.mktemp("program"))


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(folder: Path, *arguments: object) -> dict[str, Any]:
    output = folder / "eval.json"
    assert main(["eval", *map(str, arguments), "--json", str(output)]) == 0
    return json.loads(output.read_text())


def token_losses(model: Path, text: str) -> Any:
    """The negative log-likelihood of each token but the first, by transformers, and whether it is the most likely."""
    import torch

    whole = resolve_model(model)
    ids = torch.tensor([whole.tokenizer().encode(text)])
    module: Any = whole.torch_model("f32")
    with torch.inference_mode():
        likelihoods = module(ids).logits[0].double().log_softmax(-1)[:-1]
    return -likelihoods.gather(1, ids[0, 1:, None])[:, 0].numpy(), (likelihoods.argmax(-1) == ids[0, 1:]).numpy()


def test_choices_are_scored_as_plain_torch_scores_them(model: Path, tmp_path: Path) -> None:
    rows = [
        {"question": words(4, seed), "choices": [words(1 + n, 9 * seed + n) for n in range(3)], "answer": seed % 3}
        for seed in range(1, 9)
    ]
    expected: dict[str, list[bool]] = {"acc": [], "acc_norm": []}
    for row in rows:
        context = f"Question: {row['question']}\nAnswer:"
        count = len(resolve_model(model).tokenizer().encode(context))
        sums = [-token_losses(model, f"{context} {choice}")[0][count - 1 :].sum() for choice in row["choices"]]
        lengths = [len(choice) for choice in row["choices"]]
        expected["acc"].append(int(np.argmax(sums)) == row["answer"])
        expected["acc_norm"].append(int(np.argmax(np.divide(sums, lengths))) == row["answer"])
    result = evaluate(tmp_path, model, "--task=arc_easy", "--data", write_rows(tmp_path / "q.jsonl", *rows))
    assert result["documents"] == 8
    for name, right in expected.items():
        assert result["models"]["dense"][name]["value"] == pytest.approx(np.mean(right))
        assert result["models"]["dense"][name]["standard_error"] == pytest.approx(np.std(right, ddof=1) / np.sqrt(8))


def test_the_last_word_and_its_perplexity(model: Path, tmp_path: Path) -> None:
    """One text ends in the word that the model finds most likely."""
    import torch

    whole = resolve_model(model)
    texts = [words(6, seed) for seed in range(4)]
    module: Any = whole.torch_model("f32")
    ids = torch.tensor([whole.tokenizer().encode(texts[0])])
    texts.append(f"{texts[0]} w{int(module(ids).logits[0, -1].argmax())}")
    losses = [token_losses(model, text) for text in texts]
    data = write_rows(tmp_path / "t.jsonl", *({"text": text} for text in texts))
    dense = evaluate(tmp_path, model, "--task=lambada", "--data", data)["models"]["dense"]
    assert losses[-1][1][-1]
    assert dense["acc"]["value"] == np.mean([greedy[-1] for _, greedy in losses])
    assert dense["perplexity"]["value"] == pytest.approx(np.exp(np.mean([loss[-1] for loss, _ in losses])), rel=1e-4)


def test_a_program_beside_the_dense_model_and_its_controls(model: Path, program: Path, tmp_path: Path) -> None:
    """Documents of other lengths than the prompts; the interval holds the ratio, and the pairs are of documents."""
    for number, count in enumerate((40, 16, 17, 5)):
        (tmp_path / f"{number}.txt").write_text(words(count, number))
    result = evaluate(tmp_path, program, "--model", model, "--task=perplexity", "--data", tmp_path)
    assert result["documents"] == 4
    assert list(result["models"]) == ["dense", "program", "skip_layers", "rank_0"]
    dense = result["models"]["dense"]["perplexity"]["value"]
    losses: list[float] = []
    for number, count in enumerate((40, 16, 17, 5)):
        tokens = words(count, number).split()
        parts = [tokens[start : start + 16] for start in range(0, count, 16)]
        losses += [loss for part in parts if len(part) > 1 for loss in token_losses(model, " ".join(part))[0]]
    assert dense == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    for name in ("program", "skip_layers", "rank_0"):
        scores = result["models"][name]["perplexity"]
        assert scores["change"] == pytest.approx(scores["value"] / dense) != 1
        assert scores["interval_95"][0] < scores["change"] < scores["interval_95"][1]


def test_the_program_agrees_with_dcomc_run(model: Path, program: Path, tmp_path: Path, capsys: Any) -> None:
    text = tmp_path / "text.txt"
    text.write_text(words(50))
    result = evaluate(tmp_path, program, "--model", model, "--task=perplexity", "--data", text, "--no-controls")
    ran = tmp_path / "run.json"
    options = ["--text", str(text), "--decompose-with=float32", "--no-controls", "--json", str(ran)]
    assert main(["run", str(program), "--model", str(model), *options]) == 0
    document = json.loads(ran.read_text())
    assert result["models"]["program"]["perplexity"]["value"] == pytest.approx(document["perplexity"], rel=1e-6)
    assert result["models"]["program"]["perplexity"]["interval_95"] is None
    shown = capsys.readouterr().out
    assert "which are taken over documents: there is one" in shown and "95%" not in shown


def test_an_interrupted_evaluation_goes_on_to_the_same_results(
    model: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(words(40, number))
    arguments = [program, "--model", model, "--task=perplexity", "--data", tmp_path]
    whole = evaluate(tmp_path, *arguments)
    state, left, add = tmp_path / "eval.json.state", iter(range(9)), Scores.add
    assert not state.exists()
    (tmp_path / "eval.json").unlink()

    def interrupted(scores: Scores, *given: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        add(scores, *given)

    command = ["eval", *map(str, arguments), "--json", str(tmp_path / "eval.json")]
    with monkeypatch.context() as patch:
        patch.setattr(Scores, "add", interrupted)
        assert main(command) == 130
    assert json.loads(state.read_text())["windows"] == 2 and not (tmp_path / "eval.json").exists()
    capsys.readouterr()
    assert main([*command, "--max-tokens=20"]) == 1
    assert "is the state of an evaluation with other prompts" in capsys.readouterr().err
    other = save_model(tmp_path / "other", seed=1)
    assert main([str(other) if word == str(model) else word for word in command]) == 1
    assert "is the state of an evaluation with other weights" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("dcomc.evaluation.checkpoint.__version__", "1000")
        assert main(command) == 1
    assert "is the state of an evaluation with other version of dcomc" in capsys.readouterr().err
    assert evaluate(tmp_path, *arguments) == whole
    assert "2 of 5 windows are done" in capsys.readouterr().err
    assert not state.exists()
    state.write_text('{"identity": {}}')
    assert main(command) == 1
    assert "eval.json.state is " in capsys.readouterr().err
    assert evaluate(tmp_path, *arguments, "--restart") == whole


def test_numbers_are_whole_where_stdout_is_no_terminal(program: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    rows = [{"question": words(4, seed), "choices": [words(2, seed), "w1"], "answer": 0} for seed in range(3)]
    data = write_rows(tmp_path / "q.jsonl", *rows)
    assert main(["eval", str(program), "--model", str(model), "--task=arc_easy", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "arc_easy, 3 documents"
    assert sum(line.count("±") for line in lines) == 8 and "…" not in "".join(lines)
    assert max(map(len, lines)) <= 80


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    random = np.random.default_rng(0)
    before = random.random(400) < 0.6
    after = np.where(random.random(400) < 0.1, ~before, before)
    ones = np.ones(400)
    found = paired(Metric(after.astype(float), ones), Metric(before.astype(float), ones))
    change = after.astype(float) - before
    error = change.std(ddof=1) / 20
    assert found.change == pytest.approx(change.mean())
    assert found.interval == pytest.approx(
        (change.mean() - 1.96 * error, change.mean() + 1.96 * error), abs=0.15 * error
    )


def test_normalisation_is_by_bytes() -> None:
    task = MultipleChoice([Question("x", ("ab", "éé"), 1)])
    scores = [PromptScore(2.2, 1, False), PromptScore(4.0, 1, False)]
    metrics = task.metrics(scores)
    assert (metrics["acc"].value, metrics["acc_norm"].value) == (0, 1)


def test_examples_come_before_the_others() -> None:
    questions = [Question(f"Q{number}:", ("a", "b"), number % 2) for number in range(3)]
    assert with_examples(questions, 0) == questions
    assert with_examples(questions, 2) == [Question("Q0: a\n\nQ1: b\n\nQ2:", ("a", "b"), 0)]
    with pytest.raises(DcomError, match="3 examples out of 3 questions"):
        with_examples(questions, 3)


def test_questions_as_the_hub_has_them(tmp_path: Path) -> None:
    row = {"question": "Why?", "choices": {"text": ["so", "no"], "label": ["1", "2"]}, "answerKey": "2"}
    letters = {"question": "Why?", "choices": ["so", "no"], "answer": "A"}
    found = list(local_questions([write_rows(tmp_path / "q.jsonl", row, letters)]))
    assert found == [
        Question("Question: Why?\nAnswer:", ("so", "no"), 1),
        Question("Question: Why?\nAnswer:", ("so", "no"), 0),
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"choices": ["a"], "answer": 0}, "'question' is missing"),
        ({"question": "Why?", "answer": 0}, "'choices' is no list of texts"),
        ({"question": "Why?", "choices": ["a", "b"]}, "the answer None is no choice"),
        ({"question": "Why?", "choices": ["a", "b"], "answer": "C"}, "the answer 'C' is no choice"),
        ({"question": "Why?", "choices": ["a", "b"], "answer": 2}, "answer 2 is none of 2 choices"),
        ([1], "the line is no JSON object"),
    ],
)
def test_questions_with_fields_missing(tmp_path: Path, row: Any, what: str) -> None:
    path = write_rows(tmp_path / "q.jsonl", row)
    with pytest.raises(DcomError, match=what) as error:
        list(local_questions([path]))
    assert error.value.place == f"{path}:1"


def test_texts_of_files_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "empty.txt").write_text(" \n")
    write_rows(tmp_path / "a.jsonl", {"text": "first"}, {"text": "next"})
    assert [document.text for document in read_documents([tmp_path])] == ["first", "next", "second"]
    assert [document.text for document in read_documents([tmp_path], 1)] == ["first"]
    with pytest.raises(DcomError, match="there is no file or folder"):
        list(read_documents([tmp_path / "none"]))
    with pytest.raises(DcomError, match="the text is a single word"):
        list(local_last_words([write_rows(tmp_path / "w.jsonl", {"text": "one"})]))


def test_data_sets_as_hugging_face_saves_them(tmp_path: Path) -> None:
    """One alone, one of two splits, questions, and one that is damaged."""
    from datasets import Dataset, DatasetDict

    first, second = (Dataset.from_list([{"text": f"{name} {number}"} for number in range(2)]) for name in "ab")
    first.save_to_disk(tmp_path / "one")
    assert [document.text for document in read_documents([tmp_path / "one"])] == ["a 0", "a 1"]
    DatasetDict({"train": second, "test": first}).save_to_disk(tmp_path / "two")
    assert [document.text for document in read_documents([tmp_path / "two"])] == ["a 0", "a 1", "b 0", "b 1"]
    row = {"question": "Why?", "choices": {"text": ["so", "no"], "label": ["1", "2"]}, "answerKey": "2"}
    Dataset.from_list([row]).save_to_disk(tmp_path / "questions")
    assert list(local_questions([tmp_path / "questions"])) == [Question("Question: Why?\nAnswer:", ("so", "no"), 1)]
    with pytest.raises(DcomError, match="'text' is missing"):
        list(read_documents([tmp_path / "questions"]))
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DcomError, match="is no data set that `datasets` can read"):
        list(read_documents([tmp_path / "one"]))


@pytest.mark.parametrize(("task", "count"), [("arc_easy", 2376), ("arc_challenge", 1172), ("lambada", 5153)])
def test_packaged_questions_are_whole(task: str, count: int) -> None:
    questions = list(packaged_questions(task))
    assert len(questions) == count
    assert all(question.gold < len(question.choices) for question in questions)


def test_what_does_not_fit_is_said(model: Path, program: Path, tmp_path: Path, capsys: Any) -> None:
    long = write_rows(tmp_path / "q.jsonl", {"question": "w1", "choices": [words(16), "w2"], "answer": 0})
    assert main(["eval", str(program), "--model", str(model), "--task=arc_easy", "--data", str(long)]) == 1
    assert "no context or no continuation fits in 16 tokens" in capsys.readouterr().err
    assert main(["eval", str(program), "--task=arc_easy", "--data", str(long)]) == 1
    assert "a program needs its model" in capsys.readouterr().err
    assert main(["eval", str(model), "--task=arc_easy", "--limit=0"]) == 1
    assert "--limit 0 is too small" in capsys.readouterr().err


def test_a_word_is_right_when_all_its_tokens_are() -> None:
    task = LastWord([Question("x", ("y",), 0)] * 2)
    metrics = task.metrics([PromptScore(1.0, 2, True), PromptScore(3.0, 3, False)])
    assert metrics["acc"].value == 0.5
    assert metrics["perplexity"].value == pytest.approx(np.exp(2))


def test_texts_with_nothing_in_them_and_damaged_weights(model: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "tiny.txt").write_text("w1")
    for name in ("empty", "tiny"):
        assert main(["eval", str(model), "--task=perplexity", "--data", str(tmp_path / f"{name}.txt")]) == 1
        assert "no text has 2 tokens" in capsys.readouterr().err
    (tmp_path / "short.txt").write_text("w1 w2 w3")
    result = evaluate(tmp_path, model, "--task=perplexity", "--data", tmp_path / "short.txt")
    expected = np.exp(token_losses(model, "w1 w2 w3")[0].mean())
    assert result["models"]["dense"]["perplexity"]["value"] == pytest.approx(expected, rel=1e-5)
    from safetensors.numpy import load_file, save_file

    broken = save_model(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = np.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert main(["eval", str(broken), "--task=perplexity", "--data", str(tmp_path / "short.txt")]) == 1
    assert "NaN or infinity in weight 'model.norm.weight'; copy the checkpoint again" in capsys.readouterr().err
