"""m4-balance fit-head: a calibrated head on embeddings, from labelled examples or from prompts."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator
from rich.table import Table

from commands.console import Shown, console, table_of
from m4.catalogue import Catalogue, Model, load_catalogue
from m4.errors import InputError
from pipelines.labelled import labelled, read_labels
from vision.calibrated import Method
from vision.fitting import FitSettings, Question, fit_linear, prompt_head, undecided
from vision.heads import PERSON, Head
from vision.prompts import checked_templates, mark_embedding, mean_directions, noun_phrases

NOBODY = "no person"  # in `class_names`, rows of pictures without people
TEMPLATES = ("{}", "a picture of {}", "a photo of {}")


class FitHeadSettings(Model):
    """Settings of the command that fits a head."""

    catalogue: str = Field(description="YAML file that says what to look for, or builtin:people")
    attribute: str = Field(description="one of its sensitive attributes, or person")
    embeddings: str = Field(description=".npz, .npy or .parquet file, or a folder of them")
    embedding_key: str | None = Field(
        default=None, description="array of an .npz, or column of a parquet, with the embeddings"
    )
    labels: str = Field(
        description="csv or parquet with uid (or key), and a column of the value's name or one "
        "of 1 and 0 for each value; label a random sample of the data to be annotated"
    )
    model: str = Field(
        description="whose embeddings these are, ViT-B-32/openai; with --pretrained also the "
        "architecture alone, ViT-B-32"
    )
    method: Literal["linear", "prompts"] = Field(
        default="linear", description="weights from the labels, or from the catalogue's prompts"
    )
    pretrained: str | None = Field(
        default=None, description="of prompts: the model's checkpoint, a file or a tag"
    )
    class_embeddings: str | None = Field(
        default=None, description="of prompts, instead of a checkpoint: .npy of their embeddings"
    )
    class_names: str | None = Field(
        default=None,
        description=f"json list of the value of each row of it; of person: person, {NOBODY}",
    )
    templates: tuple[str, ...] = Field(
        default=TEMPLATES, description="of prompts: what each noun phrase is put into, at {}"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model runs; auto: CUDA where there is one"
    )
    calibration: Method = Field(
        default="platt", description="from scores to probabilities; isotonic wants 1000 labels"
    )
    precision: float = Field(
        default=0.95, gt=0, lt=1, description="of yes and of no, or nothing is decided"
    )
    out: str | None = Field(default=None, description="file; heads/<attribute>.json if left out")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the folds")

    @property
    def path(self) -> Path:
        """Where the head is written."""
        return Path(self.out or f"heads/{self.attribute}.json")

    @field_validator("templates")
    @classmethod
    def _templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        return checked_templates(templates)

    @model_validator(mode="after")
    def _effective(self) -> "FitHeadSettings":
        ways = [self.pretrained, self.class_embeddings]
        if self.method == "linear" and any([*ways, self.class_names]):
            raise ValueError(
                "pretrained, class_embeddings and class_names have no effect with method linear; "
                "leave them out, or take prompts"
            )
        if self.method == "prompts" and sum(way is not None for way in ways) != 1:
            raise ValueError(
                "method prompts needs the model's checkpoint (pretrained), or embeddings of the "
                "prompts (class_embeddings); give one of them"
            )
        if (self.class_embeddings is None) != (self.class_names is None):
            raise ValueError("class_embeddings and class_names belong together; give both")
        if self.pretrained is None and (self.templates != TEMPLATES or self.device != "auto"):
            raise ValueError("templates and device have no effect without pretrained")
        return self


def fit_head(settings: FitHeadSettings) -> Head:
    """Fit a head, save it as `settings.path` and return it.

    Raises `InputError` for unusable settings and inputs.
    """
    catalogue = load_catalogue(settings.catalogue)
    question = Question.of(catalogue, settings.attribute, settings.model)
    labels = read_labels(settings.labels, question)
    examples = labelled(labels, settings.embeddings, settings.embedding_key)
    fitting = FitSettings(
        calibration=settings.calibration, precision=settings.precision, seed=settings.seed
    )
    if settings.method == "linear":
        head = fit_linear(examples.embeddings, examples.labels, question, fitting)
    else:
        prompts, model = _prompts(settings, catalogue, question)
        question = question.model_copy(update={"model": model})
        head = prompt_head(prompts, examples.embeddings, examples.labels, question, fitting)
    assert head.fit is not None  # the fitting functions have made it
    fit = head.fit.model_copy(update={"left_out": examples.left_out})
    head = head.model_copy(update={"fit": fit})
    try:
        head.save(settings.path)
    except OSError as error:
        raise InputError(f"{settings.path}: cannot be written: {error}") from None
    return head


def _prompts(
    settings: FitHeadSettings, catalogue: Catalogue, question: Question
) -> tuple[np.ndarray, str]:
    """Embeddings of the prompts, and the name of the model that made them."""
    if settings.class_embeddings is not None:
        assert settings.class_names is not None  # the settings have seen to it
        given = _class_embeddings(settings.class_embeddings, settings.class_names, question)
        return given, settings.model
    from vision.embedder import load_embedder  # imports torch

    assert settings.pretrained is not None
    phrases = _phrases(catalogue, question)
    architecture, named, _ = settings.model.partition("/")
    embedder = load_embedder(
        architecture,
        settings.pretrained,
        device=settings.device,
        name=settings.model if named else None,
    )
    return mark_embedding(phrases, settings.templates, embedder.encode_texts), embedder.name


def _phrases(catalogue: Catalogue, question: Question) -> list[tuple[str, ...]]:
    """Noun phrases of each value; of a person, then of pictures without one."""
    if question.attribute != PERSON:
        marks = catalogue.sensitive[question.attribute].values
        return [noun_phrases(name, marks[name]) for name in question.values]
    if catalogue.person is None or not catalogue.person.absent_prompts:
        raise InputError(
            f"catalogue {catalogue.name!r} has no `person` with `absent_prompts`; they say what "
            "pictures without people show"
        )
    return [noun_phrases(PERSON, catalogue.person), catalogue.person.absent_prompts]


def _class_embeddings(path: str, names_path: str, question: Question) -> np.ndarray:
    """Embeddings by value, (k, d); rows of one name are averaged, as are phrases of a prompt."""
    try:
        array = np.load(path, allow_pickle=False)
        names = json.loads(Path(names_path).read_text("utf-8"))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}, {names_path}: cannot be read: {error}") from None
    if not isinstance(names, list) or array.ndim != 2 or len(array) != len(names):
        raise InputError(
            f"{names_path}: must be a list of {len(array) if array.ndim else 0} names, one for "
            f"each row of {path}, (n, d)"
        )
    prefix = question.attribute
    wanted = [PERSON, NOBODY] if prefix == PERSON else list(question.values)
    parts = []
    for value in wanted:
        rows = [row for row, name in enumerate(names) if name in (value, f"{prefix}.{value}")]
        if not rows:
            raise InputError(f"{names_path}: no row {value!r}; it needs {', '.join(wanted)}")
        parts.append(array[rows])
    return mean_directions(parts, wanted)


def command(settings: FitHeadSettings, shown: Shown = Shown()) -> None:
    """Fit a calibrated head on embeddings, with thresholds that keep a precision."""
    head = fit_head(settings)
    assert head.fit is not None
    warnings = undecided(head)
    content = {
        "head": str(settings.path),
        **head.model_dump(mode="json", exclude={"weights", "bias", "calibrations"}),
        "warnings": warnings,
    }
    shown.result(content, summary(head))
    if shown.json:
        return
    for line in warnings:
        console.print(line, style="bold red", highlight=False)
    for reason, count in head.fit.left_out.items():
        console.print(f"{count:,} labelled samples left out: {reason}", highlight=False)
    console.print(f"head: {settings.path}", soft_wrap=True, highlight=False, markup=False)


def summary(head: Head) -> Table:
    """A row per decision: how often it is taken and how often right, on held-out examples."""
    assert head.fit is not None
    rows = []
    for value, fit in zip(head.values, head.fit.values, strict=True):
        sides = (("yes", fit.yes, fit.positives), ("no", fit.no, fit.negatives))
        for answer, side, examples in sides:
            if side is not None:
                rows.append(
                    (
                        f"{value}: {answer}",
                        f"{examples:,}",
                        f"{side.share:.1%}",
                        _share(side.precision),
                        _share(side.bound),
                        _share(side.recall),
                        f"{fit.calibration_error:.4f}" if answer == "yes" else "",
                    )
                )
    title = f"{head.attribute}: {head.fit.samples:,} labelled examples, {head.model}"
    columns = ("", "labelled", "decided", "precision", "at least", "recall", "ECE")
    return table_of(title, columns, rows)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"
