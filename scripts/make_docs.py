#!/usr/bin/env python3
"""Write the pages in docs/ that are made from the program.

    python scripts/make_docs.py            write them
    python scripts/make_docs.py --check    exit with 1 if one of them is out of date, and name it

| page | made from |
|---|---|
| docs/cli.md | the commands and their options, as Click knows them |
| docs/api.md | the docstrings of the names in `spdnn_cli.__all__` |
| docs/result.schema.json | the types in `spdnn_cli/results/record.py` |
| docs/results.md, between its markers | the same types |
"""

from __future__ import annotations

import argparse
import ast
import enum
import functools
import importlib
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import spdnn_cli  # noqa: E402
from spdnn_cli.cli import cli  # noqa: E402
from spdnn_cli.results.record import Record  # noqa: E402

WIDTH = 100
MADE = "`python scripts/make_docs.py` makes this page from the program."
BEGIN = "<!-- fields: made by scripts/make_docs.py -->"
END = "<!-- /fields -->"


def wrapped(text: str, indent: str = "") -> str:
    """The words of a text in lines of at most `WIDTH` characters."""
    words = " ".join(text.split())
    return textwrap.fill(
        words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


# ---- docs/cli.md


def command_page() -> str:
    """All commands with their options."""
    parts = ["# Commands", f"{MADE} Every command has `--help`.", *_command(cli, None, "spdnn")]
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, parent: click.Context | None, name: str) -> list[str]:
    """A command, and after it those that it is a group of."""
    context = click.Context(command, parent, name, **command.context_settings)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    parts = [f"## {context.command_path}", f"    {usage}", *map(_help_paragraph, paragraphs)]
    parts.append("\n".join(_options(command, context)))
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            parts += _command(command.commands[child], context, child)
    return [part for part in parts if part]


def _help_paragraph(text: str) -> str:
    """A paragraph of a help text; Click marks with \\b those whose lines are to stay."""
    if text.startswith("\b\n"):
        return textwrap.indent(textwrap.dedent(text.removeprefix("\b\n")), "    ")
    return wrapped(text)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            names = record[0].replace(" RANGE", "")
            yield wrapped(f"- `{names}`: {record[1]}", indent="  ")


# ---- docs/api.md

SECTIONS = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns",
            "Raises": "Errors"}  # fmt: skip
"""Parts of a docstring, and their headings on the page."""


def api_page() -> str:
    """The public Python API."""
    parts = [
        "# Python API",
        f"{MADE} The commands use the same functions and classes.",
        *_docstring(spdnn_cli),
        *map(_api_entry, spdnn_cli.__all__),
    ]
    return "\n\n".join(parts) + "\n"


def _api_entry(name: str) -> str:
    value = getattr(spdnn_cli, name)
    if inspect.isclass(value):
        return "\n\n".join(_class(name, value))
    if callable(value):
        return "\n\n".join([f"## {name}", _signature(name, value), *_docstring(value)])
    return "\n\n".join([f"## {name}", _constant_doc(name, value)])


def _class(name: str, value: type) -> Iterator[str]:
    yield f"## {name}"
    if issubclass(value, Exception):
        yield from _docstring(value)
        yield "Its children:"
        yield _list(f"`{c.__name__}`: {_docstring(c)[0]}" for c in value.__subclasses__())
        return
    if issubclass(value, enum.Enum):
        yield from _docstring(value)
        yield _list(f"`{member.name}`: `{member.value!r}`" for member in value)
        return
    if issubclass(value, msgspec.Struct):
        yield f"{_docstring(value)[0]} [results.md](results.md) has its fields."
    else:
        yield _signature(name, value)
        yield from _docstring(value)
    members = [(member, what) for member, what in vars(value).items() if _is_shown(value, member)]
    properties = [(member, _getter(what)) for member, what in members if _getter(what) is not None]
    if properties:
        yield "Properties:"
        yield _list(f"`{member}`: {' '.join(_docstring(getter))}" for member, getter in properties)
    for member, what in members:
        if isinstance(what, (classmethod, staticmethod)) or inspect.isfunction(what):
            method = getattr(value, member)
            yield f"### {name}.{member}"
            yield _signature(f"{name}.{member}", method)
            yield from _docstring(method)


def _is_shown(owner: type, name: str) -> bool:
    """Whether a member is public, and no field: the class's own docstring has the fields."""
    return not name.startswith("_") and name not in getattr(owner, "__dataclass_fields__", ())


def _getter(member: Any) -> Any:
    """The function behind a property, cached or not; None: it is none."""
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, functools.cached_property) else None


def _list(entries: Iterable[str]) -> str:
    return "\n".join(wrapped(f"- {entry}", indent="  ") for entry in entries)


def _signature(name: str, function: Any) -> str:
    """How it is called, over several lines where one would be too long."""
    signature = inspect.signature(function)
    named = [p for p in signature.parameters.values() if p.name != "self"]
    shown = signature.replace(parameters=named, return_annotation=inspect.Signature.empty)
    line = f"{name}{_tidy(str(shown))}"
    if inspect.isclass(function) or signature.return_annotation is inspect.Signature.empty:
        returned = ""
    else:
        returned = f" -> {_tidy(inspect.formatannotation(signature.return_annotation))}"
    if len(line + returned) > WIDTH - 4:
        inner = ",\n".join(f"    {_tidy(str(parameter))}" for parameter in named)
        line = f"{name}(\n{inner},\n)"
    return f"```python\n{line}{returned}\n```"


def _tidy(text: str) -> str:
    """A signature without the quotes around types, module paths, and default objects' insides."""
    text = re.sub(r"(?<=: )'([^']*)'|(?<=-> )'([^']*)'|^'([^']*)'$", _unquoted, text)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)
    text = re.sub(r" = <(?:factory|function|class)[^>]*>", " = ...", text)
    return re.sub(r"=<[^>]*>", "=...", text)


def _unquoted(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _docstring(value: Any) -> list[str]:
    """The paragraphs of a docstring as Markdown, its sections as lists."""
    text = inspect.getdoc(value) or ""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        heading, _, body = paragraph.partition("\n")
        section = SECTIONS.get(heading.rstrip(":")) if heading.endswith(":") else None
        if section is not None:
            parts.append(f"{section}:\n\n{_section_list(textwrap.dedent(body))}")
        elif paragraph.startswith("    "):
            parts.append(paragraph)
        else:
            parts.append(wrapped(paragraph))
    return [part for part in parts if part]


def _section_list(body: str) -> str:
    """The entries of a section, `NAME: WHAT` with the lines that go on indented."""
    entries: list[str] = []
    for line in body.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line)
    return _list(map(_entry, entries))


def _entry(text: str) -> str:
    name, colon, what = text.partition(": ")
    is_name = bool(colon) and re.fullmatch(r"[\w., *]+", name) is not None and len(name) < 40
    return f"`{name}`: {what}" if is_name else text


def _constant_doc(name: str, value: Any) -> str:
    """The string below the assignment of a constant, in the module that has it."""
    for module in sorted(m for m in sys.modules if m.startswith("spdnn_cli.")):
        there = importlib.import_module(module)
        if vars(there).get(name) is not value:
            continue
        body = ast.parse(inspect.getsource(there)).body
        for statement, after in itertools.pairwise(body):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            named = any(isinstance(t, ast.Name) and t.id == name for t in targets)
            if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return wrapped(str(after.value.value))
    raise SystemExit(f"spdnn_cli.{name} has no description below its assignment")


# ---- docs/result.schema.json, and the tables of docs/results.md


def schema() -> dict[str, Any]:
    """The JSON Schema of a record."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The record of a run of spdnn",
        **msgspec.json.schema(Record),
    }


def schema_file() -> str:
    """The JSON Schema as a file."""
    return json.dumps(schema(), indent=2) + "\n"


def results_page() -> str:
    """docs/results.md with the tables of today's fields between its markers."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise SystemExit("docs/results.md has lost its markers")
    return f"{before}{BEGIN}\n\n{field_tables()}\n\n{END}{after}"


def field_tables() -> str:
    """A table for the record and for each part of it, in the order in which they are met."""
    parts, order = schema()["$defs"], ["Record"]
    for name in order:
        met = re.findall(r"#/\$defs/(\w+)", json.dumps(parts[name]))
        order += [other for other in dict.fromkeys(met) if other not in order]
    return "\n\n".join(_fields(name, parts[name]) for name in order if "properties" in parts[name])


def _fields(name: str, part: dict[str, Any]) -> str:
    rows = ["| field | type | what it says |", "|---|---|---|"]
    for field, about in part["properties"].items():
        what = about.get("description") or _described(about)
        cells = (f"`{field}`", _type(about), what.replace("|", "\\|"))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"### {name}", "", part["description"], "", *rows])


def _described(about: dict[str, Any]) -> str:
    """What the part says of itself that a field refers to; nothing where it refers to none."""
    name = str(about.get("$ref", "")).rpartition("/")[2]
    return str(schema()["$defs"][name]["description"]).rstrip(".") if name else ""


def _type(about: dict[str, Any]) -> str:
    """The type of a field in words."""
    if "$ref" in about or "allOf" in about:
        reference = about.get("$ref") or about["allOf"][0]["$ref"]
        name = str(reference).rpartition("/")[2]
        part = schema()["$defs"][name]
        return f"[{name}](#{name.lower()})" if "properties" in part else _type(part)
    if "anyOf" in about:
        return " or ".join(_type(one) for one in about["anyOf"])
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if about.get("type") in ("array", "object"):
        return _collection(about)
    words = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
    kind = words.get(str(about.get("type")), "null" if about.get("type") == "null" else "anything")
    return f"{kind} from {about['minimum']:g}" if "minimum" in about else kind


def _collection(about: dict[str, Any]) -> str:
    """A list or an object, and the type of what is in it."""
    if about["type"] == "object":
        values = about.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
    if "prefixItems" in about:
        return f"[{', '.join(_type(item) for item in about['prefixItems'])}]"
    return f"list of {_type(about['items'])}"


# ---- all of them

GENERATED: dict[str, Callable[[], str]] = {
    "docs/cli.md": command_page,
    "docs/api.md": api_page,
    "docs/result.schema.json": schema_file,
    "docs/results.md": results_page,
}
"""Each page, and what makes it."""


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from the program.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if one "
                        "of them is out of date")  # fmt: skip
    check = parser.parse_args().check
    stale = []
    for name, make in GENERATED.items():
        path, text = ROOT / name, make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Out of date: {', '.join(stale)}. Run: python scripts/make_docs.py", file=sys.stderr)
        return 1
    for name in stale:
        print(f"Wrote {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
