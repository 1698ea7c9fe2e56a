"""The official network and images for it."""

from __future__ import annotations

import pytest

from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, Network
from spdnn_cli.problem import YMAX


@pytest.fixture(scope="session")
def official() -> Network:
    """Forty layers."""
    return make_network(list(official_layers(1024, 0, 40)), YMAX)


@pytest.fixture(scope="session")
def digits() -> Features:
    """300 of them."""
    return Features(synthetic_features(1024, 300, 1), 1024)
