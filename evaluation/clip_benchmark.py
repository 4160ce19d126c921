"""Results in the format of CLIP_benchmark: its JSON of one evaluation, its CSV of many.

github.com/LAION-AI/CLIP_benchmark writes a JSON for each model and data set, and builds a CSV of
them with a column for each metric. Its recall counts a hit where any right answer is found, as
ours does; it names recall after what is retrieved, we after the query as well.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from evaluation.results import ProtocolResult, load_result
from m4.catalogue import Model, explain
from m4.errors import InputError
from m4.files import write_whole

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
FACTS = ("dataset", "model", "pretrained", "task", "language")
FULL_NAME = "model_fullname"
METRICS = {
    "zero_shot_top1": (CLASSIFICATION, "acc1"),
    "zero_shot_top5": (CLASSIFICATION, "acc5"),
    "mean_per_class_recall": (CLASSIFICATION, "mean_per_class_recall"),
}
DIRECTIONS = {"image_to_text": "text", "text_to_image": "image"}


class ClipBenchmarkRow(Model):
    """One model on one data set: the figures by CLIP_benchmark's names of metrics."""

    dataset: str
    model: str
    pretrained: str
    task: str
    language: str = "en"
    metrics: dict[str, float] = Field(min_length=1)


def rows_of(result: ProtocolResult) -> list[ClipBenchmarkRow]:
    """What CLIP_benchmark has a metric for, a row for each task.

    The data set is the protocol's, and the model the name of its embedding space,
    "architecture/checkpoint". Raises `InputError` where the protocol measures nothing of it.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for each in result.headlines:
        known = _metric(each.measure)
        if known is not None:
            # The subject is "task: ...", the task as the protocol names it.
            task, metric = known
            of = found.setdefault((task, each.subject.partition(":")[0]), {})
            of[metric] = each.value
    if not found:
        raise InputError(
            f"protocol {result.protocol}: CLIP_benchmark has no metric for what it measures; "
            "zero-shot and retrieval have"
        )
    model, _, pretrained = result.model.partition("/")
    sets = ", ".join(used.name for used in result.sets.values())
    return [
        ClipBenchmarkRow(
            dataset=sets if len(result.sets) == 1 else name,
            model=model,
            pretrained=pretrained,
            task=task,
            metrics=metrics,
        )
        for (task, name), metrics in found.items()
    ]


def _metric(measure: str) -> tuple[str, str] | None:
    """CLIP_benchmark's task and name of a measure of ours; None where it has none."""
    recall = re.fullmatch(r"(image_to_text|text_to_image)_r(\d+)", measure)
    if recall is not None:
        return RETRIEVAL, f"{DIRECTIONS[recall[1]]}_retrieval_recall@{recall[2]}"
    return METRICS.get(measure)


def read_rows(path: Path) -> list[ClipBenchmarkRow]:
    """Read the JSON of a protocol, or a JSON or CSV that CLIP_benchmark or `write_rows` wrote.

    What is no finite number is no metric: theirs are NaN where a data set cannot have them. Raises
    `InputError` naming the file and the row that is not of this format.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            given = [_unfolded(row) for row in csv.DictReader(io.StringIO(text))]
        else:
            given = [_measured(json.loads(text))]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if given and isinstance(given[0], dict) and "protocol" in given[0]:
        return rows_of(load_result(path))
    rows = []
    for number, content in enumerate(given, start=1):
        try:
            rows.append(ClipBenchmarkRow.model_validate(content))
        except ValidationError as error:
            raise InputError(
                f"{path}: row {number} is none of CLIP_benchmark's results: {explain(error)}"
            ) from None
    return rows


def _unfolded(row: dict[str | None, str]) -> dict[str, object]:
    if None in row:
        raise ValueError(f"a row has more cells than the header, the last: {row[None][-1]!r}")
    metrics = {}
    for name, value in row.items():
        if name in (*FACTS, FULL_NAME) or value in (None, ""):
            continue
        try:
            metrics[name] = float(value)
        except ValueError:  # such as a list of losses, or a short name of the model
            continue
    facts = {name: row[name] for name in FACTS if row.get(name)}
    return _measured({**facts, "metrics": metrics})


def _measured(content: Any) -> Any:
    """The content of a JSON with the metrics that are finite numbers."""
    if not isinstance(content, dict) or not isinstance(content.get("metrics"), dict):
        return content
    metrics = {
        name: value
        for name, value in content["metrics"].items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return {**content, "metrics": metrics}


def renamed(
    rows: Sequence[ClipBenchmarkRow], datasets: Mapping[str, str]
) -> list[ClipBenchmarkRow]:
    """Rows with other names of their data sets, by the names they have.

    Raises `InputError` where no row has such a name.
    """
    there = {row.dataset for row in rows}
    for name in datasets:
        if name not in there:
            raise InputError(
                f"datasets: no row is of {name!r}; there are {', '.join(sorted(there))}"
            )
    return [
        row.model_copy(update={"dataset": datasets.get(row.dataset, row.dataset)}) for row in rows
    ]


def write_rows(path: Path, rows: Sequence[ClipBenchmarkRow]) -> None:
    """Write a CSV with the columns that CLIP_benchmark's `build` gives; metrics in order of names.

    A folder that is not there is made. Raises `InputError` where there are no rows.
    """
    if not rows:
        raise InputError(f"{path}: no results to write; give at least one")
    metrics = sorted({name for row in rows for name in row.metrics})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*metrics, *FACTS, FULL_NAME], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        facts = row.model_dump(exclude={"metrics"})
        writer.writerow({**row.metrics, **facts, FULL_NAME: f"{row.model} {row.pretrained}"})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, stream.getvalue().encode())
