"""How far a calibration is, in a file that is replaced whole after each step, so that an interrupted one goes on."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from dcomc.calibration.statistics import SiteStatistics
from dcomc.diagnostics import atomic_write
from dcomc.evaluate import Array
from dcomc.state_files import check_identity, damaged

Place = tuple[int, str]
"""A layer and a site."""

_WORK = "a calibration"


@dataclass
class State:
    """What a calibration knows so far."""

    identity: Mapping[str, Any]
    """What it is of and how it is made: a state of another identity is of no use to it."""
    windows: int = 0
    """Windows whose statistics are in."""
    sites: dict[Place, SiteStatistics] = field(default_factory=dict[Place, SiteStatistics])
    dense_losses: list[float] = field(default_factory=list[float])
    """For each window whose sensitivities are begun, the sum of the dense model's negative log-likelihoods."""
    losses: dict[tuple[int, int, str], float] = field(default_factory=dict[tuple[int, int, str], float])
    """The same by window, layer and site, with that one site decomposed."""

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        header = {
            "identity": dict(self.identity),
            "windows": self.windows,
            "places": [[layer, site, known.prompts] for (layer, site), known in self.sites.items()],
            "dense_losses": self.dense_losses,
            "losses": [[*place, loss] for place, loss in self.losses.items()],
        }
        arrays: dict[str, Array] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        for (layer, site), known in self.sites.items():
            for name in ("histogram", "chosen", "energy"):
                arrays[f"{layer}.{site}.{name}"] = getattr(known, name)
        with atomic_write(path) as file:
            np.savez(file, **cast(dict[str, Any], arrays))

    @staticmethod
    def load(path: Path, identity: Mapping[str, Any]) -> "State":
        """Read a state.

        Raises:
            DcomError: the file is damaged, or of a calibration of another model, text or options.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header: dict[str, Any] = json.loads(file["header"].tobytes())
                sites = {
                    (layer, site): SiteStatistics(
                        file[f"{layer}.{site}.histogram"],
                        file[f"{layer}.{site}.chosen"],
                        file[f"{layer}.{site}.energy"],
                        prompts,
                    )
                    for layer, site, prompts in header["places"]
                }
            losses = {(window, layer, site): loss for window, layer, site, loss in header["losses"]}
            found, state = header["identity"], State(identity, header["windows"], sites, header["dense_losses"], losses)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise damaged(path, _WORK) from error
        check_identity(path, _WORK, found, identity)
        return state
