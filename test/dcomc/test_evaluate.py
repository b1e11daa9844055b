"""Windows of tokens, and what is measured on them, against a plain computation in torch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomc.diagnostics import DcomError
from dcomc.evaluate import Evaluation, Scores, split_windows


@given(st.integers(2, 200), st.integers(1, 3), st.integers(2, 16))
def test_windows_hold_every_token_once_in_order(count: int, batch: int, seq_len: int) -> None:
    windows = split_windows(range(1, count + 1), batch, seq_len)
    kept: list[int] = []
    for window in windows:
        assert window.tokens.shape == (batch, seq_len)
        for prompt, valid in zip(window.tokens, window.valid, strict=True):
            kept += prompt[:valid].tolist()
            assert not prompt[valid:].any()
            assert valid != 1
    left_out = 1 if count % seq_len == 1 else 0
    assert kept == list(range(1, count + 1 - left_out))
    assert not any(window.padded for window in windows[:-1])


@pytest.mark.parametrize(("count", "text"), [(0, "0 tokens"), (1, "1 token,")])
def test_too_few_tokens(count: int, text: str) -> None:
    with pytest.raises(DcomError, match=f"the text has {text}"):
        split_windows(range(count), 1, 8)


def test_prompts_of_one_token_predict_nothing() -> None:
    with pytest.raises(DcomError, match="in prompts of 1 token nothing is predicted"):
        split_windows(range(9), 1, 1)


def test_scores_are_those_of_torch() -> None:
    """Two prompts, longer than a block of rows, the second padded; the padding's logits are rubbish."""
    import torch
    from torch.nn.functional import cross_entropy

    random = np.random.default_rng(0)
    (window,) = split_windows(random.integers(0, 50, 250).tolist(), 2, 150)
    reference = random.normal(size=(2, 150, 50)).astype(np.float32) * 3
    logits = reference + random.normal(size=reference.shape).astype(np.float32)
    logits[1, 100:], reference[1, 100:] = 1e6, -1e6
    scores = Scores()
    scores.add(window, logits, reference, "it")

    loss, count = 0.0, 0
    for prompt, valid in enumerate(window.valid):
        exact, targets = (torch.from_numpy(x[prompt, :valid]) for x in (logits.astype(np.float64), window.tokens))
        loss += float(cross_entropy(exact[:-1], targets[1:], reduction="sum"))
        count += valid - 1
    seen = np.arange(150) < np.array(window.valid)[:, None]
    assert window.valid == (150, 100)
    assert (scores.tokens, scores.predictions) == (250, 248)
    assert scores.perplexity == pytest.approx(np.exp(loss / count), rel=1e-12)
    assert scores.top1_agreement == (logits.argmax(-1) == reference.argmax(-1))[seen].mean()
    assert scores.max_logit_difference == pytest.approx(np.abs(logits - reference)[seen].max(), rel=1e-6)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    windows = split_windows(range(30), 1, 8)
    flat: Any = np.zeros((1, 8, 40), np.float32)
    evaluation = Evaluation(lambda window: flat, {"same": lambda window: flat})
    steps = list(evaluation.run(windows))
    assert steps == [(number, name) for number in range(4) for name in ("dense", "same")]
    assert evaluation.dense.perplexity == pytest.approx(40)
    assert evaluation.dense.tokens == 30
    assert evaluation.scores["same"].top1_agreement == 1
    assert evaluation.scores["same"].max_logit_difference == 0


def test_a_perplexity_beyond_a_float_is_an_error() -> None:
    (window,) = split_windows([0, 0], 1, 2)
    wrong = np.float32([[[0, 1e4], [0, 1e4]]])
    scores = Scores()
    scores.add(window, wrong, wrong, "it")
    with pytest.raises(DcomError, match=r"the mean negative log-likelihood is 1e\+04, beyond that of any text"):
        _ = scores.perplexity


def test_logits_that_cannot_be_compared() -> None:
    (window,) = split_windows(range(4), 1, 4)
    good = np.zeros((1, 4, 5), np.float32)
    bad = good.copy()
    bad[0, 2, 1] = np.nan
    with pytest.raises(DcomError, match="NaN or infinity in the logits of it; look for"):
        Scores().add(window, bad, good, "it")
    with pytest.raises(DcomError, match=r"the logits of it have shape \[1, 4, 5\], of the dense model \[1, 4, 6\]"):
        Scores().add(window, good, np.zeros((1, 4, 6), np.float32), "it")
