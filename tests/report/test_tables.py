"""Tables as text: what fits a width, and what programs read."""

from __future__ import annotations

import csv
import json
import re
from typing import Any

import pytest
from helpers.tables import texts
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.report import show
from spdnn_cli.report.tables import (
    EMPTY,
    FORMATS,
    PROJECTED,
    Cell,
    Table,
    blocks,
    duration,
    lifted,
    number,
    seconds_cell,
)

RATES = Table(
    "Rates on a | b*",
    ["neurons", "engine", "TeraEdges/s", "seconds"],
    [
        [Cell(1024), Cell("tiled"), Cell(2.5), Cell(1)],
        [Cell(65536), Cell("a|b, c*"), Cell(100.0, mark="*"), EMPTY],
        [Cell(16), EMPTY, Cell(3.0, mark="!"), seconds_cell(0.002, PROJECTED)],
    ],
    ["* not verified", 'Say "x", y | z'],
    "throughput",
)
NOTHING = Table("Nothing", ["neurons", "engine"])
TWO = [RATES, NOTHING]


# ---- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.00013107, "0.0001311"),
        (1.23456, "1.235"),
        (99995, "100000"),
        (428214.6, "428200"),
        (1e-5, "1e-05"),
    ],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (61.474, "61.5 s"),
        (1.0, "1 s"),
        (0.9999, "1 s"),
        (0.0255, "25.5 ms"),
        (5.139e-5, "51.4 us"),
        (3.1e-9, "3.1 ns"),
        (0.0, "0 s"),
    ],
)
def test_durations_are_in_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- formats


def test_plain_columns_are_aligned_numbers_to_the_right_marked_or_not() -> None:
    assert FORMATS["plain"](TWO, 100) == (
        "Rates on a | b*\n"
        "\n"
        "neurons  engine   TeraEdges/s  seconds\n"
        "   1024  tiled            2.5        1\n"
        "  65536  a|b, c*        100 *\n"
        "     16                   3 !    ~2 ms\n"
        "\n"
        "* not verified\n"
        'Say "x", y | z\n'
        "\n"
        "Nothing\n"
        "\n"
        "neurons  engine\n"
        "\n"
    )


def test_markdown_escapes_what_would_end_a_cell_or_begin_emphasis() -> None:
    assert FORMATS["markdown"](TWO, 100) == (
        "## Rates on a \\| b\\*\n"
        "\n"
        "| neurons | engine | TeraEdges/s | seconds |\n"
        "| --- | --- | --- | --- |\n"
        "| 1024 | tiled | 2.5 | 1 |\n"
        "| 65536 | a\\|b, c\\* | 100 \\* |  |\n"
        "| 16 |  | 3 ! | ~2 ms |\n"
        "\n"
        "- \\* not verified\n"
        '- Say "x", y \\| z\n'
        "\n"
        "## Nothing\n"
        "\n"
        "| neurons | engine |\n"
        "| --- | --- |\n"
    )


def test_csv_has_values_in_the_unit_of_the_column_and_marks_beside_them() -> None:
    text = FORMATS["csv"](TWO, 100)
    assert text == (
        "# Rates on a | b*\n"
        "neurons,engine,TeraEdges/s,seconds,TeraEdges/s (mark),seconds (mark)\n"
        "1024,tiled,2.5,1,,\n"
        '65536,"a|b, c*",100.0,,*,\n'
        "16,,3.0,0.002,!,~\n"
        "# * not verified\n"
        '# Say "x", y | z\n'
        "\n"
        "# Nothing\n"
        "neurons,engine\n"
    )
    first = text.partition("\n\n")[0].splitlines()
    data = list(csv.reader(line for line in first if not line.startswith("#")))
    assert {len(row) for row in data} == {6}


def test_json_has_values_and_the_marks_apart() -> None:
    assert json.loads(FORMATS["json"](TWO, 100)) == [
        {
            "table": "throughput",
            "title": "Rates on a | b*",
            "rows": [
                {"neurons": 1024, "engine": "tiled", "TeraEdges/s": 2.5, "seconds": 1},
                {"neurons": 65536, "engine": "a|b, c*", "TeraEdges/s": 100, "seconds": None},
                {"neurons": 16, "engine": None, "TeraEdges/s": 3, "seconds": 0.002},
            ],
            "marks": [{}, {"TeraEdges/s": "*"}, {"TeraEdges/s": "!", "seconds": "~"}],
            "notes": ["* not verified", 'Say "x", y | z'],
        },
        {"table": "", "title": "Nothing", "rows": [], "marks": [], "notes": []},
    ]


def test_a_row_has_as_many_cells_as_there_are_columns() -> None:
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        NOTHING.add(1, 2, 3)


def test_long_tables_are_for_programs() -> None:
    table = Table("Long", ["a"], [[Cell(1)]], is_long=True)
    assert FORMATS["plain"]([table], 100) == ""
    assert all("Long" in FORMATS[form]([table], 100) for form in ("markdown", "csv", "json"))


def test_hidden_columns_are_for_programs() -> None:
    table = Table("Hidden", ["a", "b"], [[Cell(1), Cell(2)]], hidden=("b",))
    assert FORMATS["plain"]([table], 100) == "Hidden\n\na\n1\n\n"
    assert all("b" in FORMATS[form]([table], 100) for form in ("markdown", "csv", "json"))


# ---- what fits a width


def wide(rows: int = 3) -> Table:
    """Two keys, the first the same in every row, and twelve numbers."""
    table = Table("Wide", ["data", "program", *(f"N {k}" for k in range(12))], keys=2)
    for k in range(rows):
        table.add("official", f"program {k}", *(1000.0 + 12 * k + n for n in range(12)))
    return table


def test_what_every_row_has_in_common_is_said_once() -> None:
    narrow, same = lifted(wide())
    assert same == "In every row: data official."
    assert (narrow.columns[0], narrow.keys) == ("program", 1)
    one_row = Table("", ["data", "program"], [[Cell("official"), Cell("a")]], keys=2)
    assert lifted(one_row) == (one_row, "")
    alike = Table("", ["data", "n"], [[Cell("official"), Cell(8)]] * 2, keys=2)
    assert (lifted(alike)[0].columns, lifted(alike)[1]) == (["n"], "In every row: data official.")


def test_a_wide_table_goes_on_below_with_its_keys() -> None:
    text = FORMATS["plain"]([wide()], 50)
    assert text == (
        "Wide\n"
        "\n"
        "In every row: data official.\n"
        "\n"
        "program     N 0   N 1   N 2   N 3   N 4   N 5\n"
        "program 0  1000  1001  1002  1003  1004  1005\n"
        "program 1  1012  1013  1014  1015  1016  1017\n"
        "program 2  1024  1025  1026  1027  1028  1029\n"
        "\n"
        "program     N 6   N 7   N 8   N 9  N 10  N 11\n"
        "program 0  1006  1007  1008  1009  1010  1011\n"
        "program 1  1018  1019  1020  1021  1022  1023\n"
        "program 2  1030  1031  1032  1033  1034  1035\n"
        "\n"
    )


def test_columns_that_are_empty_and_rows_that_are_empty_in_a_block_are_left_out() -> None:
    table = Table("", ["key", "a", "b", "never"])
    table.add("x" * 10, 1, None, None)
    table.add("y" * 10, None, 2, None)
    first, second = blocks(table, 12, 2)
    assert (first.columns, texts(first)) == (["key", "a"], [["x" * 10, "1"]])
    assert (second.columns, texts(second)) == (["key", "b"], [["y" * 10, "2"]])
    (whole,) = blocks(table, 80, 2)
    assert whole.columns == ["key", "a", "b"]


def test_cells_of_text_break_where_a_line_is_too_short() -> None:
    table = Table("", ["program", "seconds"])
    table.add("a program with a long name of many words", 1.5)
    assert FORMATS["plain"]([table], 24) == (
        "\nprogram          seconds\na program with       1.5\na long name of\nmany words\n\n"
    )


words = st.text("abcdefg ", min_size=1, max_size=40).map(str.strip)
cells = st.one_of(words, st.floats(0.001, 99999), st.none())


@st.composite
def tables(draw: Any) -> Table:
    """Any table with text keys, and numbers or texts beside them."""
    keys, others = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    names = [f"column {k}" for k in range(keys + others)]
    table = Table("Any", names, keys=keys)
    for _ in range(draw(st.integers(1, 6))):
        table.add(*(draw(words) for _ in range(keys)), *(draw(cells) for _ in range(others)))
    return table


@given(tables(), st.sampled_from([80, 100, 200]), st.sampled_from(["plain", "table"]))
def test_no_line_is_too_long_and_no_cell_is_cut(table: Table, width: int, form: str) -> None:
    import contextlib
    import io
    import os

    out = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        with contextlib.redirect_stdout(out):
            show.show([table], form)
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    letters = re.sub(r"[^a-g0-9.]", "", text)
    for row in texts(table):
        for cell in row:
            for word in cell.split():
                if len(word) <= 8:  # longer ones may break
                    assert re.sub(r"[^a-g0-9.]", "", word) in letters


@pytest.mark.parametrize(("columns", "width"), [("64", 64), (None, 100)])
def test_off_a_terminal_a_line_has_100_columns_unless_columns_says_otherwise(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)
    assert show.width() == width
