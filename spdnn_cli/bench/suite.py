"""bench.yaml: suites of runs, read strictly. A run is written as the options of `spdnn infer`.

    version: 1
    suites:
      NAME:                             # or a list of such blocks, one after the other
        problems: {neurons: [1024, 4096], layers: 120}          # or a list of such mappings
        engines: [cpu, {engine: cpu-layered, repeat: 2}]
        devices: [{threads: 1}, {threads: 2}]                   # may be left out
        repeat: 5                       # any option of infer, for all runs of the block
        time-limit: 600                 # seconds of one run

A key is the name of an option of `infer`, and its value is that of the option. A list of values
makes one run for each value; several lists make one run for each combination. Where an option is
named twice, `engines` counts before `devices`, `devices` before `problems`, and these before the
block. Anything else in the file is an error that names the line.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from spdnn_cli.errors import BenchError

VERSION = 1
FILE_NAME = "bench.yaml"
TIME_LIMIT = click.Option(["--time-limit"], type=click.FloatRange(min=0, min_open=True))
"""Seconds that a run may take, from the start of its process to its end. Only suites have this
option; `infer` does not."""
DEFAULT_TIME_LIMIT = 3600.0
NOT_IN_SUITES = ("format",)
"""Options of `infer` that `bench` sets itself."""
LISTS = ("problems", "devices", "engines")
"""The keys of a block that are not options. A later one overrides an earlier one."""

NEEDED = {
    "problems": [{"neurons", "layers"}, {"dataset"}],
    "devices": [set[str]()],
    "engines": [{"engine"}],
}
"""The options that an entry of such a list must have: all of one of these sets."""

PACKAGE = Path(__file__).parents[1]
Options = dict[str, str]


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        words: the options, as they stand after `spdnn infer`.
        options: names and values of the options, as in the file.
        time_limit: seconds.
    """

    words: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    time_limit: float

    def get(self, name: str) -> str | None:
        """The value of an option; None: the suite does not set it."""
        return dict(self.options).get(name)

    @property
    def title(self) -> str:
        """The problem, and how it is run."""
        problem = self.get("dataset") or f"{self.get('neurons')} x {self.get('layers')}"
        named = ("dataset", "neurons", "layers", "engine")
        others = [f"{name} {value}" for name, value in self.options if name not in named]
        return ", ".join([problem, str(self.get("engine")), *others])


@dataclass(frozen=True)
class Suite:
    """A suite: its name, and its runs in order, without duplicates."""

    name: str
    runs: tuple[SuiteRun, ...]


def find(file: Path | None) -> Path:
    """The bench file to read: `file`; else that of the current folder; else the program's own.

    Raises:
        BenchError: there is none.
    """
    own = [folder / FILE_NAME for folder in (PACKAGE, PACKAGE.parent)]  # in a wheel; in a checkout
    candidates = [file] if file is not None else [Path(FILE_NAME), *own]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if file is not None:
        raise BenchError("there is no such file", path=file)
    raise BenchError(
        f"there is no {FILE_NAME} here, and none came with the program",
        hint="Install spdnn again, or name a file with --file.",
    )


class SuiteFile:
    """A bench file that was opened. A suite of it is read when it is asked for.

    Args:
        path: the file.
        parameters: those of the command `infer`: the options that a suite may name.

    Raises:
        BenchError: the file cannot be read, is not YAML, or is of another version.
    """

    def __init__(self, path: Path, parameters: Iterable[click.Parameter]) -> None:
        self.path = path
        options = [p for p in parameters if isinstance(p, click.Option)]
        by_name = {_name_of(option): option for option in [*options, TIME_LIMIT]}
        self._options = {k: v for k, v in by_name.items() if k not in NOT_IN_SUITES}
        top = self._mapping(self._root(), "the file", allowed=("version", "suites"))
        version = self._needed(top, "version", "the file")
        if version.value != str(VERSION):
            raise self._error(
                version,
                f"has version {version.value}; this program reads {VERSION}",
                hint="Update spdnn." if str(version.value).isdigit() else None,
            )
        self._suites = self._mapping(self._needed(top, "suites", "the file"), "suites")

    @property
    def names(self) -> list[str]:
        """The suites, in the order of the file."""
        return list(self._suites)

    def suite(self, name: str) -> Suite:
        """The suite of that name.

        Raises:
            BenchError: there is none, or it is not valid.
        """
        if name not in self._suites:
            raise BenchError(
                f"there is no suite {name!r}",
                path=self.path,
                hint=_did_you_mean(name, self.names) or f"Suites: {', '.join(self.names)}.",
            )
        node = self._suites[name]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise self._error(
                node, f"{name!r} is not a name of a suite", hint="Use letters, digits, - and _."
            )
        blocks = _items(node)
        if not blocks:
            raise self._error(node, f"suite {name} is empty")
        runs: dict[tuple[str, ...], SuiteRun] = {}
        for run in itertools.chain.from_iterable(self._block(b, f"suite {name}") for b in blocks):
            runs.setdefault(run.words, run)
        return Suite(name, tuple(runs.values()))

    def _block(self, node: yaml.Node, where: str) -> Iterator[SuiteRun]:
        entries = self._mapping(node, where, allowed=(*LISTS, *self._options))
        common = self._choices({k: n for k, n in entries.items() if k not in LISTS})
        parts = [self._entries(key, entries, node, where) for key in LISTS]
        for chosen in itertools.product(*parts, common):
            options = chosen[-1] | chosen[0] | chosen[1] | chosen[2]
            yield self._run(options)

    def _entries(
        self, key: str, entries: dict[str, yaml.Node], block: yaml.Node, where: str
    ) -> list[Options]:
        """The combinations of options that a block has below `problems`, `devices` or `engines`."""
        if key == "devices" and key not in entries:
            return [{}]
        if key not in entries:
            raise self._error(block, f"{where} has no {key}")
        found: list[Options] = []
        for item in _items(entries[key]):
            if key == "engines" and isinstance(item, yaml.ScalarNode):
                found.append({"engine": self._checked("engine", item)})
                continue
            mapping = self._mapping(item, f"{key} of {where}", allowed=tuple(self._options))
            if not any(way <= mapping.keys() for way in NEEDED[key]):
                words = ", or ".join(" and ".join(sorted(way)) for way in NEEDED[key])
                raise self._error(item, f"an entry of {key} in {where} needs {words}")
            found += self._choices(mapping)
        if not found:
            raise self._error(entries[key], f"{key} of {where} is empty")
        return found

    def _choices(self, mapping: dict[str, yaml.Node]) -> list[Options]:
        """One value for each option, in every combination."""
        values = []
        for name, node in mapping.items():
            items = _items(node)
            if not items or (name == _name_of(TIME_LIMIT) and len(items) > 1):
                number = "one value" if items else "at least one value"
                raise self._error(node, f"{name} needs {number}")
            values.append([self._checked(name, item) for item in items])
        return [dict(zip(mapping, chosen, strict=True)) for chosen in itertools.product(*values)]

    def _checked(self, name: str, node: yaml.Node) -> str:
        """The text of a value that the command `infer` takes."""
        option = self._options[name]
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            raise self._error(node, f"{name} needs a value, or a list of values")
        text = str(node.value)
        try:
            option.process_value(click.Context(click.Command("infer")), text)
        except click.UsageError as error:
            raise self._error(
                node,
                f"{name}: {error.message.rstrip('.')}",
                hint=_did_you_mean(text, _choices_of(option)),
            ) from error
        return text

    def _run(self, options: Options) -> SuiteRun:
        words: list[str] = []
        ordered = [name for name in self._options if name in options]
        given = {name: options[name] for name in ordered if name != _name_of(TIME_LIMIT)}
        for name, text in given.items():
            option = self._options[name]
            if not option.is_flag:
                words += [f"--{name}", text]
            elif click.BOOL.convert(text, option, None):
                words.append(f"--{name}")
            else:
                words += option.secondary_opts[:1]
        limit = float(options.get(_name_of(TIME_LIMIT), DEFAULT_TIME_LIMIT))
        return SuiteRun(tuple(words), tuple(given.items()), limit)

    def _root(self) -> yaml.Node:
        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = None if error.problem_mark is None else error.problem_mark.line + 1
            reason = error.problem or "a mistake"
            raise BenchError(f"is not YAML ({reason})", path=self.path, line=line) from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise BenchError(f"cannot be read ({reason})", path=self.path) from error
        if root is None:
            raise BenchError("is empty", path=self.path)
        return root

    def _mapping(
        self, node: yaml.Node, where: str, allowed: Sequence[str] | None = None
    ) -> dict[str, yaml.Node]:
        """The entries of a mapping by key; `allowed` are the keys it may have, None: any."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where} needs keys with values (key: value)")
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if allowed is not None and name not in allowed:
                hint = _did_you_mean(name, allowed) or f"Keys there: {', '.join(allowed)}."
                raise self._error(key, f"unknown key {name!r} in {where}", hint=hint)
            if name in entries:
                raise self._error(key, f"{name!r} is in {where} twice")
            entries[name] = value
        return entries

    def _needed(self, entries: dict[str, yaml.Node], key: str, where: str) -> yaml.Node:
        if key not in entries:
            raise BenchError(f"{where} has no {key!r}", path=self.path)
        return entries[key]

    def _error(self, node: yaml.Node, what: str, hint: str | None = None) -> BenchError:
        return BenchError(what, hint=hint, path=self.path, line=node.start_mark.line + 1)


def _items(node: yaml.Node) -> list[yaml.Node]:
    """The entries of a list; a value that is not a list counts as a list of one."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _name_of(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--")


def _choices_of(option: click.Option) -> Sequence[Any]:
    return option.type.choices if isinstance(option.type, click.Choice) else ()


def _did_you_mean(word: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else None
