"""The table that a calibration leaves, as TOML: what `dcomc compile --outliers` reads, and what it rests on."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dcomc.calibration.state import Place


@dataclass(frozen=True)
class SiteRecord:
    """What is known of one site of one layer."""

    threshold: float
    """T: elements above it in magnitude count."""
    share: float
    """The percentage of channels that are outliers by it, on average over the prompts."""
    stable_channels: list[int]
    """Channels that are among the largest in nine prompts of ten."""
    energy: list[float]
    """The share of the energy beside the outliers that a decomposition holds, for each of the table's ranks."""
    perplexity_ratio: float | None
    """With this one site decomposed, over the dense model's."""


@dataclass(frozen=True)
class Table:
    """A whole calibration."""

    model: str
    capacity_percent: float
    min_tokens_percent: float
    details: Mapping[str, Any]
    """How it was made."""
    records: Mapping[Place, SiteRecord]

    def to_toml(self) -> str:
        """The text of the file."""
        layers = sorted({layer for layer, _ in self.records})
        lines = [
            "# Made by `dcomc calibrate`; `dcomc compile --outliers` takes the thresholds.",
            f"model = {_value(self.model)}",
            f"capacity_percent = {_value(self.capacity_percent)}",
            f"min_tokens_percent = {_value(self.min_tokens_percent)}",
            *_table("calibration", self.details.items()),
        ]
        for layer in layers:
            sites = {site: record for (number, site), record in self.records.items() if number == layer}
            lines += _table(f"thresholds.{layer}", ((site, record.threshold) for site, record in sites.items()))
        for (layer, site), record in sorted(self.records.items(), key=lambda item: item[0][0]):
            entries = {
                "share_percent": round(record.share, 3),
                "stable_channels": record.stable_channels,
                "energy": [round(share, 5) for share in record.energy],
            }
            if record.perplexity_ratio is not None:
                entries["perplexity_ratio"] = round(record.perplexity_ratio, 6)
            lines += _table(f"statistics.{layer}.{site}", entries.items())
        return "\n".join(lines) + "\n"


def _table(name: str, entries: Iterable[tuple[str, Any]]) -> list[str]:
    return ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in entries)]


def _value(value: Any) -> str:
    """JSON's strings, numbers, true, false and lists of them are TOML's; floats get their shortest exact form."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
