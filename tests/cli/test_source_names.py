"""Names that the command line repeats, so that --help need not import what has them."""

from __future__ import annotations

from spdnn_cli.challenge import convert
from spdnn_cli.cli import data


def test_the_command_line_offers_every_source() -> None:
    assert data.SOURCE_NAMES == convert.SOURCES
