"""`spdnn verify`: the categories of a run against a file, or the reference engine."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.command import QUICK, Spdnn


def test_truth_that_is_not_there(spdnn: Spdnn) -> None:
    assert spdnn.fails("verify", "--truth", "none.tsv") == (
        "none.tsv: there is no such file. Name a categories file."
    )


def write_truth(spdnn: Spdnn, name: str, without: int, more: list[int]) -> Path:
    """A categories file with the result's list, less the first few, and with `more`."""
    images = spdnn.list_of(spdnn.own_results()[0]).read_text().split()[without:]
    path = Path(name)
    path.write_text("".join(f"{image}\n" for image in sorted([*map(int, images), *more])))
    return path


def test_verify_against_a_truth_file(spdnn: Spdnn, result_file: Path) -> None:
    truth = write_truth(spdnn, "neuron1024-l3-categories.tsv", without=0, more=[])
    # The result is of 200 images; what the truth says of others does not count.
    truth.write_text(truth.read_text() + "201\n60000\n")

    outcome = spdnn("verify", "--truth", truth)

    count = json.loads(result_file.read_text())["survivors"]
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"{result_file}: N=1024, L=3, 200 images, engine cpu\n"
        f"{count} categories: VERIFIED against the official categories file {truth}\n"
    )
    assert json.loads(result_file.read_text())["verification"] == {
        "status": "verified",
        "against": f"the official categories file {truth}",
        "difference": None,
    }
    (table,) = spdnn("report", "throughput", "--format", "json").json()
    assert table["marks"] == [{}]


def test_verify_names_missing_and_extra_images(spdnn: Spdnn, result_file: Path) -> None:
    listed = spdnn.list_of(result_file).read_text().split()
    dead = next(image for image in range(1, 200) if str(image) not in listed)
    truth = write_truth(spdnn, "truth.tsv", without=2, more=[dead])

    outcome = spdnn("verify", "--truth", truth)

    wrong = f"1 missing (images {dead}) and 2 too many (images {listed[0]}, {listed[1]})"
    assert outcome.code == 1
    assert outcome.err == f"error: {result_file}: the categories are wrong: {wrong}.\n"
    assert f"WRONG: {wrong} (by the official categories file truth.tsv)" in outcome.out
    assert json.loads(result_file.read_text())["verification"] == {
        "status": "wrong",
        "against": "the official categories file truth.tsv",
        "difference": wrong,
    }


def test_verify_refuses_the_truth_of_another_problem(spdnn: Spdnn, result_file: Path) -> None:
    before = result_file.read_bytes()
    truth = write_truth(spdnn, "neuron4096-l120-categories.tsv", without=0, more=[])

    assert spdnn.fails("verify", "--truth", truth) == (
        f"{truth}: is the truth of N=4096, L=120; the result is of N=1024, L=3."
    )
    assert result_file.read_bytes() == before


def test_verify_takes_the_last_run_or_the_one_that_is_named(
    spdnn: Spdnn, result_file: Path
) -> None:
    assert spdnn("infer", "--images", "20", *QUICK).code == 0

    last = spdnn("verify", "--format", "json")
    named = spdnn("verify", result_file, "--reference", "--format", "json")

    assert last.err == named.err == "Running the reference engine; it is slow.\n"
    assert last.json()["images"] == 20
    assert last.json()["file"] != named.json()["file"] == str(result_file)
    for outcome in (last.json(), named.json()):
        assert outcome["verification"] == {
            "status": "verified",
            "against": "the reference engine (float64)",
            "difference": None,
        }
    kept = json.loads(result_file.read_text())
    assert {"file": str(result_file)} | kept == named.json()


def test_verify_without_its_dataset(spdnn: Spdnn, result_file: Path) -> None:
    assert spdnn("convert", "--layers", "3", "--from", "synthetic", "--seed", "9").code == 0
    assert spdnn.fails("verify") == (
        f"{spdnn.dataset}: has changed since the result was made. Run spdnn infer again."
    )
    spdnn.dataset.unlink()
    assert spdnn.fails("verify") == (
        f"{spdnn.dataset}: there is no such file. Run spdnn convert to make the dataset."
    )


def test_verify_without_results(empty: Spdnn) -> None:
    assert empty.fails("verify") == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )
    assert empty.fails("verify", "gone.json") == (
        "gone.json: cannot be read as a result (No such file or directory)."
    )


def test_categories_that_were_changed_are_refused(spdnn: Spdnn, result_file: Path) -> None:
    categories = spdnn.list_of(result_file)
    categories.write_text("1\n")
    assert spdnn.fails("verify") == (
        f"{categories}: is damaged: its checksum is not its name. Run the run again."
    )

    categories.unlink()
    assert spdnn.fails("verify") == (f"{categories}: cannot be read (No such file or directory).")
