"""Choices that engines made by trials, kept in a file for later runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import DataError


class KeptChoices(MutableMapping[str, str]):
    """Texts by key in a JSON file. Where the file cannot be written, the next run tries again."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __getitem__(self, key: str) -> str:
        return self._read()[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._write({**self._read(), key: value})

    def __delitem__(self, key: str) -> None:
        kept = self._read()
        del kept[key]
        self._write(kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, str]:
        """The stored choices; none if the file is missing or not valid."""
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            return {key: str(value) for key, value in stored.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _write(self, choices: dict[str, str]) -> None:
        with suppress(DataError, OSError), written_aside(self._file) as part:
            part.write_text(json.dumps(choices, indent=1), encoding="utf-8")


def choices_file() -> Path:
    """Where choices are kept: beside CuPy's compiled kernels."""
    folder = os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache"
    return Path(folder).expanduser() / "spdnn-choices.json"
