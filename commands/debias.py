"""m4-balance debias: fit a method on a model's embeddings, apply it, hand it on, measure it."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from tyro.conf import Positional, subcommand

from commands.console import Shown, table_of
from commands.model_source import PlainSource, open_plain
from commands.one_set import OneSet, part_of
from commands.planning import Plan, check_material
from commands.protocol_tables import difference_table, headline_table
from commands.protocols import ProtocolCommand
from debias.lessons import Lesson, Material
from debias.method import Modality, load_method
from debias.recipes import Part, Recipe, fit_recipe, missing, needed, without_effect
from evaluation.results import compare_runs
from m4.catalogue import Model
from m4.errors import InputError
from pipelines.changed_embeddings import change_embeddings
from reporting.evaluation_page import ProtocolSection, write_evaluation_page

PLAIN = "-plain"  # ends the name of the result of the model as it is


class FitCommand(PlainSource, OneSet, Recipe, Material):
    """Settings of fitting a method on prompts, on images or on both; some want no images."""

    out: str = Field(description="folder of the method, method.json in it")
    cache: str | None = Field(default=None, description="folder that keeps embeddings")
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of pictures that may be unusable"
    )

    @model_validator(mode="after")
    def _all_is_read(self) -> "FitCommand":
        recipe, material = part_of(Recipe, self), part_of(Material, self)
        with_images = self.given_set() is not None
        learns = f"{self.method}, as it is set, learns from {self._flags(needed(recipe))}"
        if lacking := missing(recipe, material, with_images=with_images):
            raise ValueError(f"{learns}; missing: {self._flags(lacking)}; give what is missing")
        if idle := without_effect(recipe, material, with_images=with_images):
            raise ValueError(f"{learns}; without effect: {self._flags(idle)}; leave that out")
        return self

    def _flags(self, parts: list[Part]) -> str:
        images = "--images" if self.embeddings is None else "--embeddings"
        return ", ".join(images if part == "images" else f"--{part}" for part in parts)


class FittedMethod(Model):
    """A method that was fitted; in the subcommands that take one it is named first."""

    method: Positional[str] = Field(description="folder of a method")


class ApplyCommand(FittedMethod):
    """Settings of debiasing embeddings that somebody has."""

    embeddings: str = Field(
        description="one .npy, or .npz, .npy or .parquet with uids, or a folder of them"
    )
    embedding_key: str | None = Field(
        default=None, description="array of an .npz, or column of a parquet, with the embeddings"
    )
    of: Modality = Field(description="what they are embeddings of")
    out: str = Field(description=".npy, or folder for parquets with uid and embedding")


class ExportCommand(PlainSource, FittedMethod):
    """Settings of handing a repaired model on to open_clip."""

    out: str = Field(description="folder, which open_clip loads as local-dir:FOLDER")
    attached: bool = Field(
        default=False,
        description="put a linear method beside the model too, not into its last projections",
    )


class MeasureCommand(ProtocolCommand, FittedMethod):
    """Settings of measuring a model as it is and with a method."""

    @model_validator(mode="after")
    def _alone(self) -> "MeasureCommand":
        for name in ("repaired_by", "against"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect beside a method; leave it out")
        return self


Action = (
    Annotated[FitCommand, subcommand("fit", description="fit a method on a model's embeddings")]
    | Annotated[ApplyCommand, subcommand("apply", description="debias embeddings that are there")]
    | Annotated[
        ExportCommand, subcommand("export", description="write a model that open_clip loads")
    ]
    | Annotated[
        MeasureCommand,
        subcommand("evaluate", description="run a protocol on a model without and with a method"),
    ]
)


def command(action: Action, shown: Shown = Shown()) -> None:
    """Repair a trained model: fit a debiasing method, apply, export and measure it."""
    if isinstance(action, FitCommand):
        _fit(action, shown)
    elif isinstance(action, ApplyCommand):
        _apply(action, shown)
    elif isinstance(action, ExportCommand):
        _export(action, shown)
    else:
        _evaluate(action, shown)


def _fit(settings: FitCommand, shown: Shown) -> None:
    material, given = part_of(Material, settings), settings.given_set()
    check_material(material, given)
    model = open_plain(part_of(PlainSource, settings), settings.cache)
    images = None
    if given is not None:
        with shown.progress("images to fit on") as progress:
            images = model.embed(given, max_failures=settings.max_failures, progress=progress)
    lesson = Lesson(material, images, model.encode_texts, model.embedder)
    fitted = fit_recipe(part_of(Recipe, settings), lesson, model.space)
    method = fitted.method
    method.save(settings.out)
    content = {
        "method": type(method).__name__,
        "parameters": method.get_params(),
        "dimension": method.dimension_,
        "source": method.source,
        "fit_seconds": fitted.seconds,
        "out": settings.out,
    }
    rows = [
        ("space", str(method.space)),
        ("fitted on", str(method.source)),
        ("numbers in an embedding", str(method.dimension_)),
        ("seconds", f"{fitted.seconds:.2f}"),
    ]
    shown.result(content, table_of(f"{type(method).__name__} in {settings.out}", ("", ""), rows))


def _apply(settings: ApplyCommand, shown: Shown) -> None:
    method = load_method(settings.method)
    transform = method.transform_images if settings.of == "images" else method.transform_texts

    def change(embeddings: np.ndarray) -> np.ndarray:
        moved: np.ndarray = transform(embeddings)
        return moved

    with shown.progress("tables") as progress:
        found = change_embeddings(
            settings.embeddings,
            settings.out,
            change,
            key=settings.embedding_key,
            of=method.space,
            space=f"{method.space} + {type(method).__name__}" if method.space else None,
            progress=progress,
        )
    rows = [("tables", f"{len(found.tables):,}"), ("embeddings", f"{found.rows:,}")]
    rows += [(f"of them NaN: {why}", f"{count:,}") for why, count in found.undefined.items()]
    shown.result(found.model_dump(mode="json"), table_of(settings.out, ("", ""), rows))


def _export(settings: ExportCommand, shown: Shown) -> None:
    from debias.open_clip_export import export_open_clip

    model = open_plain(part_of(PlainSource, settings), None)
    if model.embedder is None:
        raise InputError("texts: embeddings cannot be exported; give checkpoint, or model")
    method = load_method(settings.method, space=model.space)
    export_open_clip(settings.out, model.embedder, method, attached=settings.attached)
    content = {"method": type(method).__name__, "model": model.name, "out": settings.out}
    rows = [("model", model.name), ("method", type(method).__name__)]
    shown.result(content, table_of(f"open_clip loads local-dir:{settings.out}", ("", ""), rows))
    shown.person(f"how: {Path(settings.out) / 'README.md'}")


def _evaluate(settings: MeasureCommand, shown: Shown) -> None:
    """Measure without and with the method, save both, and show what differs."""
    ((name, planned),) = settings.suite().runs.items()
    plan = Plan.of(planned.protocol, planned.sets, settings.compat, settings.resampling)
    model = open_plain(part_of(PlainSource, settings), settings.cache)
    repaired = model.repaired(load_method(settings.method, space=model.space))
    out, results = Path(settings.out), ((model, f"{name}{PLAIN}"), (repaired, name))
    for each, result in results:
        plan.check(each.name, out / f"{result}.json", None)
    sets = plan.embed(model, settings.max_failures, shown)
    runs = []
    for each, result in results:
        runs.append(plan.run(each, sets))
        runs[-1].save(out, result)
        shown.person(headline_table(result, runs[-1]))
    section = ProtocolSection.of(runs)
    page = write_evaluation_page(out / f"{name}.html", [section])
    found = compare_runs(*runs)
    shown.result(found.model_dump(mode="json"), difference_table(found))
    shown.person(f"page: {page}")
