"""How far an evaluation is, in a file that is replaced whole after each window, so that an interrupted one goes on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcomc import __version__
from dcomc.diagnostics import write_text
from dcomc.evaluate import Evaluation, PromptScore, Scores, Window
from dcomc.state_files import check_identity, damaged

_WORK = "an evaluation"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A file for the scores of the windows that are done."""

    path: Path
    restart: bool = False
    """Take no notice of what the file holds."""

    def attach(self, evaluation: Evaluation, windows: Sequence[Window], subject: Mapping[str, str]) -> None:
        """Let an evaluation go on from the file, where there is one, and leave its scores there after each window.

        Args:
            evaluation: not yet run.
            windows: what it will run on.
            subject: what is evaluated, such as digests of the program and the weights, by a name for errors.

        Raises:
            DcomError: the file is damaged, or of another evaluation.
        """
        identity = {
            "format": _FORMAT,
            "version of dcomc": __version__,
            **subject,
            "prompts": digest_windows(windows),
            "controls": ["dense", *evaluation.models],
        }
        if self.path.exists() and not self.restart:
            self._load(evaluation, identity)
        evaluation.after = lambda: self._save(evaluation, identity)

    def remove(self) -> None:
        """Delete the file: what it was for is done."""
        self.path.unlink(missing_ok=True)

    def _load(self, evaluation: Evaluation, identity: Mapping[str, Any]) -> None:
        try:
            document: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            check_identity(self.path, _WORK, document["identity"], identity)
            scores = {name: _scores(values) for name, values in document["scores"].items()}
            evaluation.done, evaluation.dense = int(document["windows"]), scores.pop("dense")
            evaluation.scores = scores
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(self.path, _WORK) from error

    def _save(self, evaluation: Evaluation, identity: Mapping[str, Any]) -> None:
        scores = {"dense": evaluation.dense, **evaluation.scores}
        document = {
            "identity": identity,
            "windows": evaluation.done,
            "scores": {name: asdict(each) for name, each in scores.items()},
        }
        write_text(self.path, json.dumps(document, allow_nan=False))


def _scores(values: Mapping[str, Any]) -> Scores:
    scores = Scores(**values)
    scores.prompts = [PromptScore(**each) for each in values["prompts"]]
    return scores


def digest_windows(windows: Sequence[Window]) -> str:
    """SHA-256 of the tokens, and of which of them count."""
    digest = hashlib.sha256()
    for window in windows:
        digest.update(f"{window.tokens.shape} {window.valid} {window.first}\n".encode())
        digest.update(np.ascontiguousarray(window.tokens).tobytes())
    return digest.hexdigest()
