"""m4-balance evaluate: what a model is worth, by published protocols or on a gallery."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.table import Table
from tyro.conf import Positional, subcommand

from commands.console import Shown, console, table_of
from commands.gallery import EvaluateCommand, evaluate
from commands.protocols import (
    ProtocolCommand,
    SuiteSettings,
    difference_table,
    headline_table,
    load_suite,
    run_suite,
)
from evaluation.clip_benchmark import read_rows, write_rows
from evaluation.protocol import built_in_protocols, load_protocol
from evaluation.results import ProtocolRun, compare_runs
from m4.catalogue import Model
from reporting.evaluation_page import ProtocolSection, write_evaluation_page


class SuiteFile(Model):
    """A YAML file that names a model, protocols and the images of each."""

    file: Positional[str] = Field(description="YAML file")


class Compared(Model):
    """Two results of one protocol, of two models on the same images."""

    first: Positional[str] = Field(description="result (.json)")
    second: Positional[str] = Field(description="result (.json)")
    out: str | None = Field(default=None, description="HTML file to write, with pictures")


class ClipBenchmarkTable(Model):
    """Results in one table of CLIP_benchmark's format."""

    results: Positional[tuple[str, ...]] = Field(
        description="results (.json) of protocols, and CLIP_benchmark's own .json and .csv"
    )
    out: str = Field(description=".csv to write")


class Listing(Model):
    """The protocols that are built in."""


Action = (
    Annotated[ProtocolCommand, subcommand("protocol", description="run a published protocol")]
    | Annotated[SuiteFile, subcommand("suite", description="run the protocols of a YAML file")]
    | Annotated[Compared, subcommand("compare", description="set two models side by side")]
    | Annotated[
        EvaluateCommand,
        subcommand("gallery", description="measure a trained model on shards, by a catalogue"),
    ]
    | Annotated[
        ClipBenchmarkTable,
        subcommand("clip-benchmark", description="put results into a table of CLIP_benchmark"),
    ]
    | Annotated[Listing, subcommand("list", description="name the built-in protocols")]
)


def command(action: Action, shown: Shown = Shown()) -> None:
    """Measure a model's bias and quality, with null values and intervals."""
    if isinstance(action, ProtocolCommand):
        _protocols(action.suite(), shown, action.against)
    elif isinstance(action, SuiteFile):
        _protocols(load_suite(Path(action.file)), shown, None)
    elif isinstance(action, Compared):
        _compare(action, shown)
    elif isinstance(action, EvaluateCommand):
        _gallery(action, shown)
    elif isinstance(action, ClipBenchmarkTable):
        _clip_benchmark(action, shown)
    else:
        _list(shown)


def _protocols(settings: SuiteSettings, shown: Shown, against: str | None) -> None:
    earlier = None if against is None else ProtocolRun.load(Path(against))
    found = run_suite(settings, shown)
    content: dict[str, Any] = {}
    tables, pages = [], []
    for name, run in found.items():
        together = (run,) if earlier is None else (earlier, run)
        page = Path(settings.out) / f"{name}.html"
        pages.append(write_evaluation_page(page, [ProtocolSection.of(together)]))
        content[name] = run.result.model_dump(mode="json")
        tables.append(headline_table(name, run))
        if earlier is not None:
            difference = compare_runs(earlier, run)
            content["differences"] = difference.model_dump(mode="json")
            tables.append(difference_table(difference))
    shown.result(content, *tables)
    if not shown.json:
        for page in pages:
            console.print(f"page: {page}")


def _compare(given: Compared, shown: Shown) -> None:
    runs = [ProtocolRun.load(Path(path)) for path in (given.first, given.second)]
    found = compare_runs(*runs)
    shown.result(found.model_dump(mode="json"), difference_table(found))
    if given.out is not None:
        write_evaluation_page(Path(given.out), [ProtocolSection.of(runs)])
        if not shown.json:
            console.print(f"page: {given.out}")


def _gallery(settings: EvaluateCommand, shown: Shown) -> None:
    with shown.progress("evaluate") as progress:
        evaluation = evaluate(settings, progress=progress)
    rows = [
        (name.replace("_", " "), f"{figure:.4f}") for name, figure in evaluation.headline().items()
    ]
    shown.result(
        evaluation.model_dump(mode="json"), table_of(settings.name, ("measure", "figure"), rows)
    )


def _clip_benchmark(given: ClipBenchmarkTable, shown: Shown) -> None:
    rows = [row for path in given.results for row in read_rows(Path(path))]
    write_rows(Path(given.out), rows)
    metrics = sorted({name for row in rows for name in row.metrics})
    lines = [
        (
            f"{row.model} {row.pretrained}, {row.dataset}",
            *(f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in metrics),
        )
        for row in rows
    ]
    table = table_of(given.out, ("model, data set", *metrics), lines)
    shown.result([row.model_dump(mode="json") for row in rows], table)


def _list(shown: Shown) -> None:
    protocols = [load_protocol(name) for name in built_in_protocols()]
    table = Table(header_style="bold")
    for column in ("protocol", "measures", "images it wants"):
        table.add_column(column)
    for protocol in protocols:
        wants = "\n".join(
            what if len(protocol.sets) == 1 else f"{role}: {what}"
            for role, what in protocol.sets.items()
        )
        table.add_row(protocol.name, protocol.title, wants)
    shown.result([protocol.model_dump(mode="json") for protocol in protocols], table)
