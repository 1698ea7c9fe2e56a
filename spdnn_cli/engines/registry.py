"""The list of engines. Each has one entry, with all that other modules know of it.

The command line, the choice of `auto`, the reports and the pictures read these entries; nothing
heavy is imported for them. An engine outside this package needs no entry: a package offers it
through the entry point group `spdnn.engines`, or a user names its class, `--engine FILE.py:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from spdnn_cli.errors import EngineError
from spdnn_cli.results.record import Device

if TYPE_CHECKING:
    from importlib import metadata

    from spdnn_cli.engines.protocol import Engine, EngineOptions

ENTRY_POINTS = "spdnn.engines"


@dataclass(frozen=True)
class EngineOption:
    """An option that only some engines take: `--NAME` of `infer`, `NAME` in a suite.

    Attributes:
        name: such as "tile".
        metavar: the placeholder for its value in the help.
        help: a sentence.
    """

    name: str
    metavar: str
    help: str


@dataclass(frozen=True)
class EngineEntry:
    """What is known of an engine without importing it.

    Attributes:
        name: the name on the command line.
        device: where it runs.
        target: its class, "package.module:Class", or "FILE.py:Class".
        summary: what it does, in a few words.
        auto: whether `--engine auto` may take it.
        folds: whether it runs the folded network, with images on the chip from end to end.
        gives_values: whether it can return the values of live images, so that they can move to
            other workers (`--rebalance`).
        bytes_per_edge: bytes of weights that it reads for each edge; None: not known.
        yardstick: whether others are compared with it.
        options: the options that only it takes.
        colour, marker: of its series in pictures, on white paper; engines of one kind on different
            devices share them. Colours after Okabe and Ito (https://jfly.uni-koeln.de/color/).
    """

    name: str
    device: Device
    target: str
    summary: str = ""
    auto: bool = False
    folds: bool = False
    gives_values: bool = False
    bytes_per_edge: int | None = None
    yardstick: bool = False
    options: tuple[EngineOption, ...] = ()
    colour: str = "#8a6a00"
    marker: str = "^"


_TILE = EngineOption(
    "tile",
    "SHAPE",
    "Tile shape of the engine tiled, such as "
    "minibatch=12,outputs=1,blocksize=256,buffer=24KB,reorder=no.",
)
_HERE = "spdnn_cli.engines"

ENGINES = {
    entry.name: entry
    for entry in (
        EngineEntry(
            "reference",
            "cpu",
            f"{_HERE}.reference:ReferenceEngine",
            "SciPy, float64, layer by layer: all other engines are compared with it",
            yardstick=True,
            colour="#6b6f78",
            marker="P",
        ),
        EngineEntry(
            "cpu-layered",
            "cpu",
            f"{_HERE}.cpu.layered:CpuLayeredEngine",
            "Numba, every edge of every live image, layer by layer",
            auto=True,
            gives_values=True,
            yardstick=True,
            colour="#bd4f00",
            marker="s",
        ),
        EngineEntry(
            "cpu",
            "cpu",
            f"{_HERE}.cpu.folded:CpuEngine",
            "Numba, twin neurons computed once, finished images leave",
            auto=True,
            folds=True,
            colour="#0072b2",
            marker="o",
        ),
        EngineEntry(
            "baseline",
            "cuda",
            f"{_HERE}.cuda.baseline:BaselineEngine",
            "CSR, one thread per output and image: the paper's baseline",
            bytes_per_edge=8,
            yardstick=True,
            colour="#a8487e",
            marker="v",
        ),
        EngineEntry(
            "cusparse",
            "cuda",
            f"{_HERE}.cuda.cusparse:CusparseEngine",
            "NVIDIA's sparse product, then bias and clip",
            bytes_per_edge=8,
            colour="#007f5c",
            marker="D",
        ),
        EngineEntry(
            "tiled",
            "cuda",
            f"{_HERE}.cuda.tiled:TiledEngine",
            "the paper's engine, for any sparse network",
            auto=True,
            gives_values=True,
            bytes_per_edge=6,
            options=(_TILE,),
            colour="#bd4f00",
            marker="s",
        ),
        EngineEntry(
            "folded",
            "cuda",
            f"{_HERE}.cuda.folded:FoldedEngine",
            "twin neurons computed once, an image stays on the chip from input to end",
            auto=True,
            folds=True,
            colour="#0072b2",
            marker="o",
        ),
    )
}
"""The engines of this package by name, in the order of lists."""


def find(name: str) -> EngineEntry:
    """The entry of an engine: of this package, of an installed one, or of `FILE.py:Class`.

    Raises:
        EngineError: there is no such engine, or its file cannot be imported.
    """
    if name in ENGINES:
        return ENGINES[name]
    file, _, class_name = name.rpartition(":")
    if file.endswith(".py"):
        return _own_entry(name, _class_in_file(Path(file), class_name))
    installed = _installed()
    if name in installed:
        try:
            return _own_entry(name, installed[name].load())
        except Exception as error:  # whatever a foreign module raises
            raise EngineError(
                f"engine {name} cannot be imported ({type(error).__name__}: {error})",
                hint=f"It comes from the entry point {installed[name].value}.",
            ) from error
    known = [*ENGINES, *installed]
    close = difflib.get_close_matches(name, known, 1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    raise EngineError(
        f"there is no engine {name!r}",
        hint=f"{meant}Engines: {', '.join(known)}; or FILE.py:Class for your own.",
    )


def create(name: str, options: EngineOptions) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: as `find`.
    """
    return cast("Engine", _class_of(find(name))(options))


def on_device(device: str) -> list[str]:
    """The engines of this package that run on a device."""
    return [name for name, entry in ENGINES.items() if entry.device == device]


def own_options() -> dict[str, EngineOption]:
    """The options that only some engines of this package take, by name."""
    return {option.name: option for entry in ENGINES.values() for option in entry.options}


def _class_of(entry: EngineEntry) -> Any:
    module, _, class_name = entry.target.rpartition(":")
    if module.endswith(".py"):
        return _class_in_file(Path(module), class_name)
    return getattr(importlib.import_module(module), class_name)


def _own_entry(name: str, engine: Any) -> EngineEntry:
    """The entry of an engine outside this package, from its class.

    The class has an attribute `device`, and may have the other attributes of an `EngineEntry`.
    """
    known = ("summary", "folds", "gives_values", "bytes_per_edge", "options", "colour", "marker")
    device = getattr(engine, "device", None)
    if device not in ("cpu", "cuda"):
        raise EngineError(
            f"engine {name} does not name its device",
            hint='Give its class an attribute: device = "cpu", or "cuda".',
        )
    source = getattr(engine, "_spdnn_file", None)
    target = f"{source or engine.__module__}:{engine.__qualname__}"
    more = {field: getattr(engine, field) for field in known if hasattr(engine, field)}
    return EngineEntry(name, device, target, **more)


@cache
def _class_in_file(file: Path, class_name: str) -> Any:
    if not file.is_file():
        raise EngineError("there is no such file", path=file, hint="Name it: FILE.py:Class.")
    spec = importlib.util.spec_from_file_location(f"spdnn_engine_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise EngineError(
            f"cannot be imported ({type(error).__name__}: {error})", path=file
        ) from error
    engine = getattr(module, class_name, None)
    if not isinstance(engine, type):
        raise EngineError(f"has no class {class_name!r}", path=file)
    engine._spdnn_file = str(file)  # type: ignore[attr-defined]
    return engine


@cache
def _installed() -> dict[str, metadata.EntryPoint]:
    """Engines that installed packages offer, by name."""
    from importlib import metadata  # tens of milliseconds, which `--help` need not wait for

    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
