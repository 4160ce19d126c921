"""m4-balance compare: models and debiasing methods, alone and together, in one table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from tyro.conf import Positional

from commands.comparison_tables import comparison_tables
from commands.console import Shown
from commands.model_source import ImagesOf, Opened, PlainSource, open_plain
from commands.planning import Plan, check_material
from commands.protocols import ResultName
from debias.comparison import PLAIN, ComparedRow, Comparison, arms_of, corrected
from debias.lessons import Lesson, Material
from debias.recipes import Recipe, fit_recipe, missing
from evaluation.labelled_set import LabelledSet
from evaluation.rank_measures import Compat
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun, compare_runs
from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError
from reporting.comparison_chart import check_arms
from reporting.comparison_page import write_comparison_page

FILES = tuple(
    f"comparison.{kind}" for kind in ("json", "csv", "html")
)  # beside the models' folders
FIT = "fit"  # the images that methods are fitted on unless they name others
METHODS = "methods"  # folder of those that were fitted


class ComparedModel(PlainSource):
    """A model, and its own images where they are not those of all models."""

    own: dict[str, ImagesOf] = Field(
        default_factory=dict,
        description="embeddings that this model made, in place of images of that name: a role, "
        "`fit`, or one of `fit.others`",
    )


class FitImages(Material):
    """What methods are fitted on."""

    images: ImagesOf = Field(description="pictures, or embeddings, that are not measured on")
    others: dict[str, ImagesOf] = Field(
        default_factory=dict, description="more of them by name, for methods that ask for those"
    )


class ComparedRecipe(Recipe):
    """A method, and which images it is fitted on."""

    images: str | None = Field(
        default=None, description="name of one of `fit.others`; `fit.images` if left out"
    )


class CompareSettings(Model):
    """Settings of a comparison of models and methods."""

    models: dict[ResultName, ComparedModel] = Field(
        min_length=1, description="by name; the seeds of one arm as original-0, original-1"
    )
    protocol: str = Field(description="name of a built-in protocol, or a YAML file")
    sets: dict[str, ImagesOf] = Field(description="images by the role they have in the protocol")
    fit: FitImages
    methods: dict[ResultName, ComparedRecipe] = Field(
        min_length=1, description="debiasing methods, by name"
    )
    out: str = Field(description="folder; comparison.json, .csv and .html in it")
    cache: str | None = Field(default=None, description="folder that keeps embeddings")
    compat: Compat | None = None
    max_failures: float = Field(default=0.01, ge=0, le=1)
    resampling: Resampling = Resampling()

    @model_validator(mode="after")
    def _apart(self) -> "CompareSettings":
        taken = [name for name in self.models if name in FILES]
        if taken:
            raise ValueError(f"models: {taken[0]} is a file of the comparison; name it otherwise")
        if PLAIN in self.methods:
            raise ValueError(f"methods: {PLAIN!r} is the model as it is; name yours otherwise")
        named = [name for name, model in self.models.items() if model.texts is None]
        other = [name for name in named if self.models[name].model_name is not None]
        if other:
            raise ValueError(f"models.{other[0]}.model_name has no effect here; its key names it")
        twice = sorted(({FIT} | self.sets.keys()) & self.fit.others.keys())
        if twice or FIT in self.sets:
            raise ValueError(f"{(twice or [FIT])[0]!r} names two sets of images; rename one")
        return self

    @model_validator(mode="after")
    def _known(self) -> "CompareSettings":
        asked = {recipe.images for recipe in self.methods.values()} - {None}
        if asked != self.fit.others.keys():
            strange = sorted(map(str, asked ^ self.fit.others.keys()))
            raise ValueError(
                f"fit.others has {', '.join(self.fit.others) or 'nothing'}, but methods ask for "
                f"{', '.join(sorted(map(str, asked))) or 'none of it'}; name {strange[0]!r} in "
                "both or in neither"
            )
        for name, recipe in self.methods.items():
            if lacking := missing(recipe, self.fit):
                raise ValueError(
                    f"methods.{name}: {recipe.method} learns from fit.{lacking[0]}, which is "
                    "missing; give it"
                )
        there = {FIT, *self.sets, *self.fit.others}
        for name, model in self.models.items():
            other = sorted(model.own.keys() - there)
            if other:
                raise ValueError(
                    f"models.{name}.own: {other[0]!r} is none of {', '.join(sorted(there))}"
                )
        return self

    def images(self, model: ComparedModel) -> dict[str, ImagesOf]:
        """All images of a model: by role, `FIT`, and by the names of others to fit on."""
        return {**self.sets, FIT: self.fit.images, **self.fit.others, **model.own}

    def plan(self, model: ComparedModel) -> Plan:
        """What is measured of a model. Raises `InputError` where labels or prompts lack."""
        images = self.images(model)
        for name in (FIT, *self.fit.others):
            check_material(self.fit, images[name])
        sets = {role: images[role] for role in self.sets}
        return Plan.of(self.protocol, sets, self.compat, self.resampling)


class CompareFile(Model):
    """A YAML file that names models, methods, a protocol and images."""

    file: Positional[str] = Field(description="YAML file")


def load_comparison(path: Path) -> CompareSettings:
    """Read the settings. Raises `InputError` naming the file and the key that is wrong."""
    try:
        return CompareSettings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def compare(settings: CompareSettings, shown: Shown = Shown(quiet=True)) -> Comparison:
    """Measure every model as it is and with every method; save the table and what was fitted.

    A method that cannot be fitted, or used on what is asked, is a row that says why; the others
    go on. Raises `InputError` where a setting, a model or images cannot be used.
    """
    plans = {name: settings.plan(model) for name, model in settings.models.items()}
    out = Path(settings.out)
    for name, plan in plans.items():
        for method in (PLAIN, *settings.methods):
            plan.check(_called(name, method), out / name / f"{method}.json", None)
    rows: list[ComparedRow] = []
    firsts = _Firsts.of(list(settings.models))
    for name, source in settings.models.items():
        model = replace(open_plain(source, settings.cache), name=name)
        work = _Work.of(settings, plans[name], model, settings.images(source), shown)
        plain = plans[name].run(model, work.sets)
        plain.save(out / name, PLAIN)
        first = firsts.beside(name, plain)
        rows.append(_row(name, PLAIN, plain, against=first))
        rows += work.methods(plain, first, out / name)
        kept = plain.result
        found = Comparison(
            protocol=kept.protocol,
            title=kept.title,
            published=kept.source,
            sets=kept.sets,
            level=kept.resampling.level,
            rows=corrected(rows),
        )
        found.save(out)  # what is there is of use, should a later model fail
    return found


@dataclass(frozen=True, eq=False)
class _Firsts:
    """The models of the first arm as they are, by seed; and which of them stands beside which."""

    arms: Mapping[str, str]
    runs: dict[str, ProtocolRun]

    @classmethod
    def of(cls, models: Sequence[str]) -> "_Firsts":
        return cls(arms_of(models), {})

    def beside(self, model: str, run: ProtocolRun) -> ProtocolRun | None:
        """That of the same seed, or the first; None for a model of the first arm, which is kept."""
        arm = self.arms[model]
        seed = model.removeprefix(arm)
        if arm == next(iter(self.arms.values())):
            self.runs[seed] = run
            return None
        return self.runs.get(seed, next(iter(self.runs.values())))


@dataclass(frozen=True, eq=False)
class _Work:
    """One model, with all images embedded.

    Attributes
    ----------
    sets : to measure on, by role
    lessons : to fit on, by name
    """

    settings: CompareSettings
    plan: Plan
    model: Opened
    sets: Mapping[str, LabelledSet]
    lessons: Mapping[str, Lesson]
    shown: Shown

    @classmethod
    def of(
        cls,
        settings: CompareSettings,
        plan: Plan,
        model: Opened,
        images: Mapping[str, ImagesOf],
        shown: Shown,
    ) -> "_Work":
        sets = plan.embed(model, settings.max_failures, shown)
        lessons = {}
        for name in (FIT, *settings.fit.others):
            with shown.progress(f"{model.name}: {name}") as progress:
                found = model.embed(
                    images[name], max_failures=settings.max_failures, progress=progress
                )
            lessons[name] = Lesson(settings.fit, found, model.encode_texts, model.embedder)
        return cls(settings, plan, model, sets, lessons, shown)

    def methods(
        self, plain: ProtocolRun, first: ProtocolRun | None, out: Path
    ) -> Iterator[ComparedRow]:
        """Fit, measure and save each method; yield its row."""
        with self.shown.progress(f"{self.model.name}: methods") as progress:
            for done, (name, recipe) in enumerate(self.settings.methods.items(), start=1):
                try:
                    yield self._method(name, recipe, plain, first, out)
                except InputError as error:
                    yield ComparedRow(model=self.model.name, method=name, failure=str(error))
                progress(done, len(self.settings.methods))

    def _method(
        self,
        name: str,
        recipe: ComparedRecipe,
        plain: ProtocolRun,
        first: ProtocolRun | None,
        out: Path,
    ) -> ComparedRow:
        fitted = fit_recipe(recipe, self.lessons[recipe.images or FIT], self.model.space)
        fitted.method.save(out / METHODS / name)
        called = _called(self.model.name, name)
        repaired = replace(self.model.repaired(fitted.method), name=called)
        run = self.plan.run(repaired, self.sets)
        run.save(out, name)
        row = _row(self.model.name, name, run, against=plain)
        about = {
            "source": fitted.method.source,
            "fit_seconds": fitted.seconds,
            "seen": _shared(fitted.images, self.sets.values()),
            "from_first": () if first is None else compare_runs(first, run).headlines,
        }
        return row.model_copy(update=about)


def _called(model: str, method: str) -> str:
    """What a result calls a model with a method."""
    return model if method == PLAIN else f"{model} + {method}"


def _row(model: str, method: str, run: ProtocolRun, against: ProtocolRun | None) -> ComparedRow:
    return ComparedRow(
        model=model,
        method=method,
        figures=run.result.headlines,
        changes=() if against is None else compare_runs(against, run).headlines,
        undefined=run.result.undefined,
    )


def _shared(images: LabelledSet | None, others: Iterable[LabelledSet]) -> int:
    """Images that are in others too: the same embedding, whatever file and set they come from."""
    if images is None:
        return 0
    there = {row.tobytes() for other in others for row in other.embeddings}
    return sum(row.tobytes() in there for row in images.embeddings)


def command(settings: CompareFile, shown: Shown = Shown()) -> int:
    """Set models and debiasing methods side by side; 1 where a method failed."""
    given = load_comparison(Path(settings.file))
    check_arms(list(given.models))
    found = compare(given, shown)
    shown.result(found.model_dump(mode="json"), *comparison_tables(found))
    page = write_comparison_page(Path(given.out) / "comparison.html", found)
    shown.person(f"page: {page}")
    return int(any(row.failure for row in found.rows))
