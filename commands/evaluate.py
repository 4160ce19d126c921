"""m4-balance evaluate: what a model is worth, by published protocols or on a gallery."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.table import Table
from tyro.conf import Positional, subcommand

from commands.console import Shown, table_of
from commands.gallery import EvaluateCommand, evaluate
from commands.planning import Earlier
from commands.protocol_tables import difference_table, headline_table, measurement_table
from commands.protocols import ProtocolCommand, SuiteSettings, load_suite, run_suite
from evaluation.clip_benchmark import read_rows, renamed, write_rows
from evaluation.protocol import FOLDER, built_in_protocols, load_protocol
from evaluation.results import ProtocolRun, compare_runs
from m4.catalogue import Model
from m4.errors import InputError
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
    datasets: dict[str, str] = Field(
        default_factory=dict,
        description="names of data sets in the results, and those to write: "
        "wds_imagenet1k wds/imagenet1k",
    )


class Declaration(Model):
    """A built-in protocol as YAML, to copy and change."""

    protocol: Positional[str] = Field(description="its name")


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
    | Annotated[
        Declaration, subcommand("show", description="print a built-in protocol, to copy and change")
    ]
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
    elif isinstance(action, Declaration):
        _show(action, shown)
    else:
        _list(shown)


def _protocols(settings: SuiteSettings, shown: Shown, against: str | None) -> None:
    earlier = None if against is None else Earlier.load(Path(against))
    content: dict[str, Any] = {"results": {}}
    try:
        for name, run in run_suite(settings, earlier, shown):
            content["results"][name] = run.result.model_dump(mode="json")
            shown.person(headline_table(name, run))
            section = ProtocolSection.of((run,) if earlier is None else (earlier.run, run))
            if section.differences is not None:
                content["differences"] = section.differences.model_dump(mode="json")
                shown.person(difference_table(section.differences))
            page = write_evaluation_page(Path(settings.out) / f"{name}.html", [section])
            shown.person(f"page: {page}")
    finally:  # what was finished before a run that fails is of use
        shown.result(content)


def _compare(given: Compared, shown: Shown) -> None:
    runs = [ProtocolRun.load(Path(path)) for path in (given.first, given.second)]
    found = compare_runs(*runs)
    shown.result(found.model_dump(mode="json"), difference_table(found))
    if given.out is not None:
        write_evaluation_page(Path(given.out), [ProtocolSection.of(runs)])
        shown.person(f"page: {given.out}")


def _gallery(settings: EvaluateCommand, shown: Shown) -> None:
    with shown.progress("evaluate") as progress:
        evaluation = evaluate(settings, progress=progress)
    found = tuple(evaluation.measurements.values())
    table = measurement_table(settings.name, found, evaluation.settings.resampling.level)
    shown.result(evaluation.model_dump(mode="json"), table)


def _clip_benchmark(given: ClipBenchmarkTable, shown: Shown) -> None:
    found = [row for path in given.results for row in read_rows(Path(path))]
    rows = renamed(found, given.datasets)
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
    table.add_column("protocol", no_wrap=True)
    for column in ("measures", "images it wants"):
        table.add_column(column)
    for protocol in protocols:
        wants = "\n".join(
            what if len(protocol.sets) == 1 else f"{role}: {what}"
            for role, what in protocol.sets.items()
        )
        table.add_row(protocol.name, protocol.title, wants)
    shown.result([protocol.model_dump(mode="json") for protocol in protocols], table)


def _show(given: Declaration, shown: Shown) -> None:
    if given.protocol not in built_in_protocols():
        raise InputError(
            f"protocol: {given.protocol!r} is none of {', '.join(built_in_protocols())}"
        )
    shown.result(load_protocol(given.protocol).model_dump(mode="json"))
    if not shown.json:
        print((FOLDER / f"{given.protocol}.yaml").read_text(), end="")
