"""Where things lie: `datasets/` with the raw files and the converted ones, and `results/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from spdnn_cli.atomic import written_aside


@dataclass(frozen=True)
class Workspace:
    """The two folders that every command works in.

    Attributes:
        data_dir: raw files below `raw/`, datasets as `neuron{N}.h5`.
        results_dir: results, one folder per machine.
    """

    data_dir: Path
    results_dir: Path

    @property
    def raw(self) -> Path:
        """Where `fetch` puts the official files and MNIST."""
        return self.data_dir / "raw"

    def dataset(self, neurons: int) -> Path:
        """The dataset file of the official problems with `neurons` neurons."""
        return self.data_dir / f"neuron{neurons}.h5"

    def remember(self, neurons: int) -> None:
        """Note which problem was fetched or converted last."""
        if self.last_neurons() == neurons:
            return  # a folder that is only read needs no writing
        with written_aside(self._note) as part:
            part.write_text(json.dumps({"neurons": neurons}))

    def last_neurons(self) -> int | None:
        """The problem that was fetched or converted last; None: none was."""
        try:
            return int(json.loads(self._note.read_text())["neurons"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def _note(self) -> Path:
        return self.data_dir / "last.json"
