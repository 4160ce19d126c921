"""Run published protocols on a model, and set its figures beside another model's."""

from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from rich.table import Table
from tyro.conf import Positional

from commands.console import Shown, table_of
from commands.model_source import ImagesOf, ModelSource, open_model
from evaluation.draws import Interval, Null
from evaluation.protocol import load_protocol, run_protocol
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun, RunDifferences
from evaluation.tasks import Compat
from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError
from pipelines.image_sets import ImageSetSettings
from pipelines.plain_embeddings import PlainSettings

ONE = "images"  # the role of the set of a protocol that wants one


class PlannedRun(Model):
    """A protocol, and the images for each of its sets."""

    protocol: str = Field(description="name of a built-in protocol, or a YAML file")
    sets: dict[str, ImagesOf] = Field(description="images by the role they have in the protocol")


class SuiteSettings(Model):
    """Protocols to run on one model."""

    model: ModelSource
    runs: dict[str, PlannedRun] = Field(description="protocols, by the name of their result")
    out: str = Field(description="folder; <name>.json, .csv, .html and .draws.npz in it")
    cache: str | None = Field(default=None, description="folder that keeps embeddings")
    compat: Compat | None = None
    max_failures: float = Field(default=0.01, ge=0, le=1)
    resampling: Resampling = Resampling()


class ProtocolCommand(ModelSource):
    """Settings of a protocol that is run on one set of images."""

    protocol: Positional[str] = Field(description="name of a built-in protocol, or a YAML file")
    images: str | None = Field(
        default=None, description="a folder of pictures, tars, or a data set of clip_benchmark"
    )
    embeddings: str | None = Field(
        default=None, description="instead of pictures: .npy, .npz or .parquet with embeddings"
    )
    embedding_key: str | None = Field(
        default=None, description="array of an .npz, or column of a parquet, with the embeddings"
    )
    labels: str | None = Field(
        default=None, description="csv, tsv or parquet with a row for each picture"
    )
    file_column: str | None = Field(
        default=None, description="column of --labels that names the file; `file` if left out"
    )
    split: str | None = Field(default=None, description="of a data set of clip_benchmark")
    columns: dict[str, str] = Field(
        default_factory=dict, description="names that the protocol wants, and yours: gender Male"
    )
    where: dict[str, str] = Field(
        default_factory=dict, description="pictures to use: labels, and the values they must have"
    )
    out: str = Field(description="folder; <name>.json, .csv, .html and .draws.npz in it")
    name: str | None = Field(default=None, description="of the result; the protocol's if left out")
    cache: str | None = Field(default=None, description="folder that keeps embeddings")
    against: str | None = Field(
        default=None, description="result (.json) of another model on the same images: what differs"
    )
    compat: Compat | None = Field(
        default=None, description="reproduce the quirks of published code, to compare with it"
    )
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of pictures that may be unusable"
    )
    resampling: Resampling = Resampling()

    @model_validator(mode="after")
    def _usable(self) -> "ProtocolCommand":
        self.suite()
        return self

    def suite(self) -> SuiteSettings:
        """The same as a suite of one run."""
        if (self.images is None) == (self.embeddings is None):
            raise ValueError("which images? Give one of images and embeddings")
        kind = ImageSetSettings if self.embeddings is None else PlainSettings
        own = {"images", "embeddings", "embedding_key", "labels", "file_column", "split"}
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        given |= {"columns": self.columns, "where": self.where}
        name = self.name or Path(self.protocol).stem
        return SuiteSettings(
            model=ModelSource(**{each: getattr(self, each) for each in ModelSource.model_fields}),
            runs={name: PlannedRun(protocol=self.protocol, sets={ONE: kind.model_validate(given)})},
            out=self.out,
            cache=self.cache,
            compat=self.compat,
            max_failures=self.max_failures,
            resampling=self.resampling,
        )


def load_suite(path: Path) -> SuiteSettings:
    """Read a suite's YAML file. Raises `InputError` naming the file and the key that is wrong."""
    try:
        return SuiteSettings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def run_suite(settings: SuiteSettings, shown: Shown = Shown(quiet=True)) -> dict[str, ProtocolRun]:
    """Run protocols on a model, and save what they find.

    All declarations are read before any image is. Raises `InputError` for unusable settings and
    inputs; what was finished before stays.
    """
    protocols = {name: load_protocol(run.protocol) for name, run in settings.runs.items()}
    for name, run in settings.runs.items():
        wanted = protocols[name].sets
        if run.sets.keys() != wanted.keys():
            raise InputError(
                f"protocol {run.protocol} wants "
                + "; ".join(f"{role}: {what}" for role, what in wanted.items())
                + f"; given are {', '.join(run.sets)}; a suite file names several sets "
                "(m4-balance evaluate suite)"
            )
    model = open_model(settings.model, settings.cache)
    found = {}
    for name, run in settings.runs.items():
        sets = {}
        for role, images in run.sets.items():
            with shown.progress(f"{name}: {role}") as progress:
                sets[role] = model.embed(
                    images, max_failures=settings.max_failures, progress=progress
                )
        found[name] = run_protocol(
            protocols[name],
            sets,
            model.encode_texts,
            model=model.name,
            resampling=settings.resampling,
            compat=settings.compat,
        )
        found[name].save(Path(settings.out), name)
    return found


def headline_table(name: str, run: ProtocolRun) -> Table:
    """Headlines with their intervals, and what they are without bias."""
    rows = []
    for each in run.result.headlines:
        null, interval = each.null, each.interval
        rows.append(
            (
                _named(each.measure, each.subject),
                _figure(each.value, interval),
                "" if null is None else _figure(null.mean, null),
                "" if each.excess is None else f"{each.excess:+.3f}",
                "" if each.p_value is None else f"{each.p_value:.2g}",
            )
        )
    level = f"{run.result.resampling.level:.0%}"
    columns = ("measure", f"figure [{level}]", f"without bias [{level}]", "excess", "p")
    images = ", ".join(f"{used.images:,} of {used.name}" for used in run.result.sets.values())
    return _folding(table_of(f"{name}: {run.result.model}, {images}", columns, rows))


def difference_table(found: RunDifferences) -> Table:
    """What differs between two models, headline by headline."""
    rows = [
        (
            _named(each.measure, each.subject),
            f"{each.first:.3f}",
            f"{each.second:.3f}",
            _figure(each.value, each.interval, sign="+"),
            "" if each.p_value is None else f"{each.p_value:.2g}",
        )
        for each in found.headlines
    ]
    columns = ("measure", "first", "second", "difference [interval]", "p")
    title = f"On the same images and prompts: {found.first}, and {found.second}"
    return _folding(table_of(title, columns, rows))


def _named(measure: str, subject: str) -> str:
    return f"{measure.replace('_', ' ')}; {subject}"


def _figure(value: float, around: Interval | Null | None, sign: str = "") -> str:
    shown = f"{value:{sign}.3f}"
    return shown if around is None else f"{shown} [{around.low:{sign}.3f}, {around.high:{sign}.3f}]"


def _folding(table: Table) -> Table:
    """Names are folded, where figures must stay on their line."""
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    return table
