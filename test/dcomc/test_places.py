"""Layers and sites in words."""

from dcomc.places import layers_text, sites_by_layers, spans


def test_runs_of_numbers() -> None:
    assert spans([1, 2, 3, 7]) == "1-3, 7"
    assert (layers_text([4]), layers_text([4, 6])) == ("layer 4", "layers 4, 6")


def test_sites_that_stand_in_the_same_layers_are_told_together() -> None:
    places = [(2, "qkv"), (1, "qkv"), (2, "o"), (1, "o"), (2, "down")]
    assert list(sites_by_layers(places)) == [(["qkv", "o"], [1, 2]), (["down"], [2])]
