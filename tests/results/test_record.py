"""A record is decoded strictly, and what is wrong is named by its path."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from helpers.records import made
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.results.record import Record, alive_stretches, decode, encode


def as_dict(record: Record) -> dict[str, Any]:
    return json.loads(encode(record))


def test_a_record_comes_back_as_it_was() -> None:
    record = made().record
    assert decode(encode(record)) == record
    assert "\n" not in encode(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["launch"].pop("workers"),
            r"`\$.launch.workers` is missing",
        ),
        (lambda d: d.update(neurons="many"), r"Expected `int`, got `str` - at `\$.neurons`"),
        (lambda d: d.update(wobble=1), r"`\$.wobble` is unknown"),
        (lambda d: d["launch"].update(wobble=1), r"`\$.launch.wobble` is unknown"),
        (
            lambda d: d["timings_s"]["infer"].update(samples=[]),
            r"length >= 1 - at `\$.timings_s.infer.samples`",
        ),
        (lambda d: d["verification"].update(status="maybe"), r"'maybe' - at `\$.verification.stat"),
        (lambda d: d.update(layers=0), r"`int` >= 1 - at `\$.layers`"),
        (
            lambda d: d.update(schema_version=2),
            r"schema version 2; this program reads 3. Run it ag",
        ),
        (
            lambda d: d.update(schema_version=4),
            r"schema version 4; this program reads 3. Update sp",
        ),
        (lambda d: d.pop("schema_version"), r"`\$.schema_version` is missing"),
    ],
)
def test_what_is_wrong_is_named(change: Any, message: str) -> None:
    content = as_dict(made().record)
    change(content)
    with pytest.raises((msgspec.ValidationError, ValueError), match=message):
        decode(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "1", '{"schema_version": "3"}', "\x00"])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises((msgspec.DecodeError, ValueError)):
        decode(text)


@given(st.lists(st.integers(0, 100)))
def test_alive_is_stored_by_stretches(alive: list[int]) -> None:
    stretches = alive_stretches(alive)
    assert [images for images, layers in stretches for _ in range(layers)] == alive
    assert all(one[0] != other[0] for one, other in itertools.pairwise(stretches))
