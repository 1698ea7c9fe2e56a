"""truth.py, official.py: what is relied on is computed; what a file or a record says is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.networks import bit_features, layer_of
from isal import isal_zlib

from spdnn_cli import cli, problem
from spdnn_cli.challenge import official
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.errors import DataError
from spdnn_cli.network.dataset import Dataset, open_dataset, write_dataset
from spdnn_cli.network.fold import fold
from spdnn_cli.network.layers import FoldedLayer
from spdnn_cli.results.record import Status
from spdnn_cli.results.store import categories_sha256
from spdnn_cli.run.truth import known_truth, verification
from spdnn_cli.workspace import Workspace

BITS = bit_features(np.random.default_rng(1).random((40, 1024)) < 0.3)
IDENTITY = fold(layer_of(np.eye(1024)))


def write(path: Path, layers: list[FoldedLayer], ymax: float = 32.0) -> Dataset:
    return write_dataset(path, BITS, enumerate(layers), len(layers), ymax, {"source": "synthetic"})


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPDNN_DATA_DIR", raising=False)
    monkeypatch.delenv("SPDNN_RESULTS_DIR", raising=False)
    return tmp_path


def spdnn(*words: str) -> int:
    """Run the command; its exit code."""
    argv, sys.argv = sys.argv, ["spdnn", *words]
    try:
        cli.main()
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        sys.argv = argv
    return 0


def infer(capsys: pytest.CaptureFixture[str], *words: str) -> Path:
    quick = ("--device", "cpu", "--warmup", "0", "--repeat", "1", "--threads", "1")
    assert spdnn("infer", *quick, *words) == 0
    capsys.readouterr()
    return max(path for path in Path("results").glob("local/*/n*.json"))


def message_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert spdnn(*words) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


# --- official networks -------------------------------------------------------------------------


def test_any_depth_of_the_official_network_is_known(tmp_path: Path) -> None:
    layers = list(official_layers(1024, 0, 125))
    whole = write(tmp_path / "whole.h5", layers)
    for wanted in (1, 7, 119, 120, 121, 125):
        assert official_depth(whole, wanted) == wanted
    assert official_depth(whole) == 125
    assert official_depth(write(tmp_path / "few.h5", layers[:9])) == 9
    assert whole.network_sha256(120) == problem.NETWORK_SHA256[1024][120]


def test_known_depths_are_not_regenerated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write(tmp_path / "data.h5", list(official_layers(1024, 0, 121)))
    monkeypatch.setattr(official, "official_layers", None)
    assert official_depth(dataset, 120) == 120
    assert official_depth(dataset, 5) == 5


def test_other_networks_are_not_official(tmp_path: Path) -> None:
    layers = list(official_layers(1024, 0, 122))
    for at in (0, 3, 121):
        changed = [*layers[:at], IDENTITY, *layers[at + 1 :]]
        assert official_depth(write(tmp_path / "data.h5", changed)) == at
    assert official_depth(write(tmp_path / "data.h5", layers, ymax=1.0)) == 0
    assert official_depth(write(tmp_path / "data.h5", layers[1:])) == 0


def test_the_tables_of_a_file_make_no_network_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity network with the checksums of the official one."""
    real = write(tmp_path / "real.h5", list(official_layers(1024, 0, 120)))
    forged = write(tmp_path / "forged.h5", [IDENTITY] * 120)
    with h5py.File(forged.path, "r+") as file:
        file["layers/sha256"][:] = real.layer_checksums()
        file["layers"]["official"] = np.ones(120, np.uint8)
    forged = open_dataset(forged.path)
    monkeypatch.setitem(problem.FEATURES_SHA256, 1024, forged.features_sha256)
    monkeypatch.setattr(problem, "IMAGES", forged.images)
    workspace = Workspace(tmp_path, tmp_path)
    assert known_truth(workspace, open_dataset(real.path), 120, 40) is not None
    with pytest.raises(DataError, match="layer 1, sha256: the layer is not what the file"):
        known_truth(workspace, forged, 120, 40)


def test_a_count_is_called_a_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write(tmp_path / "data.h5", list(official_layers(1024, 0, 120)))
    monkeypatch.setitem(problem.FEATURES_SHA256, 1024, dataset.features_sha256)
    monkeypatch.setattr(problem, "IMAGES", dataset.images)
    workspace = Workspace(tmp_path, tmp_path)
    found = []
    for sha256 in (problem.CATEGORIES_SHA256[1024], None):
        monkeypatch.setitem(problem.CATEGORIES_SHA256, 1024, sha256)
        known = known_truth(workspace, dataset, 120, dataset.images)
        assert known is not None
        of_right_length = verification(np.arange(1812, dtype=np.int32), known)
        found.append((known.source, of_right_length.status))
    assert found == [
        ("the official categories (SHA-256)", Status.WRONG),
        ("1812 official survivors", Status.COUNT_ONLY),
    ]


# --- verify ------------------------------------------------------------------------------------


def own(path: Path) -> Dataset:
    return write(path, [IDENTITY])


def change(result: Path, categories: list[int] | None = None, **record: Any) -> None:
    """Write a result with other entries, and another list with its checksum."""
    if categories is not None:
        text = "".join(f"{image}\n" for image in categories)
        sha256 = categories_sha256(np.array(categories, np.int32) - 1)
        (result.parents[1] / "lists" / f"{sha256}.tsv").write_text(text)
        record["categories_sha256"] = sha256
    result.write_text(json.dumps(json.loads(result.read_text()) | record))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"survivors": 999999},
            "its record names 999999 survivors, its list of categories 40. "
            "One of the two was changed. Run spdnn infer again.",
        ),
        (
            {"categories": [1, 2, 2, *range(3, 40)], "survivors": 40},
            "its categories are no ascending list: image 2 is listed twice.",
        ),
        (
            {"categories": [2, 1, *range(3, 41)]},
            "its categories are no ascending list: image 1 is listed after image 2.",
        ),
        ({"categories": [*range(1, 40), 41]}, "its categories name image 41 of 40."),
        ({"categories": [0, *range(1, 40)]}, "its categories name image 0 of 40."),
    ],
)
def test_verify_refuses_a_result_that_contradicts_itself(
    own_folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], what: str
) -> None:
    own(own_folder / "own.h5")
    result = infer(capsys, "--dataset", "own.h5")
    change(result, **changes)
    assert message_of(capsys, "verify").endswith(f"{result}: {what}")


def test_verify_computes_the_checksums(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = own(own_folder / "own.h5")
    infer(capsys, "--dataset", "own.h5")
    with h5py.File(dataset.path, "r+") as file:
        file["features"].id.write_direct_chunk((0, 0), isal_zlib.compress(bytes(BITS.array.nbytes)))
    told = "the inputs are not what the file says; it was changed after it was made"
    assert told in message_of(capsys, "verify")
    assert told in message_of(capsys, "infer", "--dataset", "own.h5", "--device", "cpu")


def test_infer_says_what_would_verify_it(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own(own_folder / "own.h5")
    assert spdnn("infer", "--dataset", "own.h5", "--device", "cpu", "--repeat", "1") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not verified: no answer is stored for this problem. spdnn verify runs" in shown


def test_layers_are_limited_by_the_dataset_alone(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = fold(layer_of(2 * np.eye(4)))
    features = bit_features(np.eye(4))
    write_dataset("deep.h5", features, ((k, layer) for k in range(2000)), 2000, 32.0, {})
    result = infer(capsys, "--dataset", "deep.h5", "--layers", "1950")
    assert json.loads(result.read_text())["layers"] == 1950
    told = message_of(capsys, "infer", "--dataset", "deep.h5", "--layers", "2001")
    assert "deep.h5: has 2000 layers, 2001 were asked for. Ask for 2000 at most." in told
    assert "the official networks have 1920 layers, 1921 were asked for." in message_of(
        capsys, "infer", "--layers", "1921"
    )
