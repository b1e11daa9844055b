"""Layers and sites in words: those that have something alike, told together."""

from collections.abc import Iterable, Iterator, Sequence

Place = tuple[int, str]
"""A layer and a site, or the number alone."""


def sites_by_layers(places: Iterable[Place]) -> Iterator[tuple[list[str], list[int]]]:
    """Sites that stand in the same layers, with these layers in order."""
    layers_of: dict[str, set[int]] = {}
    for layer, site in places:
        layers_of.setdefault(site, set()).add(layer)
    together: dict[tuple[int, ...], list[str]] = {}
    for site, layers in layers_of.items():
        together.setdefault(tuple(sorted(layers)), []).append(site)
    for layers, sites in together.items():
        yield sites, list(layers)


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as `1-3, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def layers_text(layers: Sequence[int]) -> str:
    """Sorted layers as `layer 7` or `layers 1-3, 7`."""
    return f"layer{'' if len(layers) == 1 else 's'} {spans(layers)}"
