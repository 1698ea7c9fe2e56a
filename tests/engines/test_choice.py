"""The choice of `auto`, and engines that are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import layer_of, network_of, random_matrix

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.choice import choose
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import EngineError
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Network
from spdnn_cli.problem import YMAX


def few_twins() -> Network:
    random = np.random.default_rng(8)
    return network_of([layer_of(random_matrix(random, 30, 30, 0.5, np.array([1, 2, 3])))] * 2)


def test_auto_folds_the_official_network() -> None:
    official = make_network(list(official_layers(1024, 0, 2)), YMAX)
    for device in (None, "cpu"):
        choice = choose("auto", device, "cpu", official)
        assert (choice.engine, choice.device) == ("cpu", "cpu")


def test_auto_folds_no_network_with_few_twins() -> None:
    choice = choose("auto", None, "cpu", few_twins())
    assert (choice.engine, choice.device) == ("cpu-layered", "cpu")
    assert "100.0%" in choice.reason


def test_auto_looks_at_a_network_of_one_layer() -> None:
    network = network_of([layer_of(np.zeros((2, 2)))])
    assert choose("auto", "cpu", "cpu", network).engine == "cpu"


@pytest.mark.parametrize("name", list(ENGINES))
def test_an_engine_that_is_asked_for_brings_its_device(name: str) -> None:
    choice = choose(name, None, "cpu", few_twins())
    assert (choice.engine, choice.device) == (name, ENGINES[name].device)
    assert choose(name, ENGINES[name].device, "cpu", few_twins()) == choice


@pytest.mark.parametrize(("name", "device", "other"), [("cpu", "cpu", "cuda"),
                                                       ("tiled", "cuda", "cpu")])  # fmt: skip
def test_an_engine_on_another_device(name: str, device: str, other: str) -> None:
    with pytest.raises(EngineError) as caught:
        choose(name, other, "cpu", few_twins())
    there = ", ".join(name for name, entry in ENGINES.items() if entry.device == other)
    assert str(caught.value) == (
        f"engine {name} runs on {device}, not on {other}. "
        f"Leave out --device, or choose one of {there}."
    )


def test_an_engine_that_is_not_there() -> None:
    wanted = (
        f"there is no engine 'gpu'. Did you mean 'cpu'? Engines: {', '.join(ENGINES)}; "
        "or FILE.py:Class for your own."
    )
    with pytest.raises(EngineError) as caught:
        choose("gpu", None, "cpu", few_twins())
    assert str(caught.value) == wanted
    with pytest.raises(EngineError) as caught:
        create("gpu", EngineOptions())
    assert str(caught.value) == wanted
