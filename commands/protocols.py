"""Run published protocols on a model."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator
from tyro.conf import Positional

from commands.console import Shown
from commands.model_source import ImagesOf, ModelSource, open_model
from commands.one_set import OneSet, part_of
from commands.planning import Earlier, Plan
from evaluation.labelled_set import LabelledSet
from evaluation.rank_measures import Compat
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun
from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError

ONE = "images"  # the role of the set of a protocol that wants one


def _file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w .@+-]*", name):
        raise ValueError(
            "cannot name the files of a result; use letters, digits, blanks and . @ + - _, of "
            "which the first is a letter or a digit"
        )
    return name


ResultName = Annotated[str, AfterValidator(_file_name)]


class PlannedRun(Model):
    """A protocol, and the images for each of its sets."""

    protocol: str = Field(description="name of a built-in protocol, or a YAML file")
    sets: dict[str, ImagesOf] = Field(description="images by the role they have in the protocol")


class SuiteSettings(Model):
    """Protocols to run on one model."""

    model: ModelSource
    runs: dict[ResultName, PlannedRun] = Field(
        min_length=1, description="protocols, by the name of their result"
    )
    out: str = Field(description="folder; <name>.json, .csv, .html and .draws.npz in it")
    cache: str | None = Field(default=None, description="folder that keeps embeddings")
    compat: Compat | None = None
    max_failures: float = Field(default=0.01, ge=0, le=1)
    resampling: Resampling = Resampling()


class ProtocolCommand(ModelSource, OneSet):
    """Settings of a protocol that is run on one set of images."""

    protocol: Positional[str] = Field(description="name of a built-in protocol, or a YAML file")
    out: str = Field(description="folder; <name>.json, .csv, .html and .draws.npz in it")
    name: ResultName | None = Field(
        default=None, description="of the result; the protocol's if left out"
    )
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
        try:
            self.suite()
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        return self

    def suite(self) -> SuiteSettings:
        """The same as a suite of one run."""
        name = self.name or Path(self.protocol).stem
        return SuiteSettings(
            model=part_of(ModelSource, self),
            runs={name: PlannedRun(protocol=self.protocol, sets={ONE: self.one_set()})},
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


def run_suite(
    settings: SuiteSettings, earlier: Earlier | None = None, shown: Shown = Shown(quiet=True)
) -> Iterator[tuple[str, ProtocolRun]]:
    """Run protocols on a model; save what each finds, and yield it with its name.

    Before any image is encoded, all declarations and their prompts are read, and results that
    would be lost are looked for; a set that several protocols want is encoded once.

    Parameters
    ----------
    earlier : a result to compare with; None: none

    Raises `InputError` for unusable settings and inputs; what was yielded before stays.
    """
    out = Path(settings.out)
    plans = {
        name: Plan.of(run.protocol, run.sets, settings.compat, settings.resampling)
        for name, run in settings.runs.items()
    }
    model = open_model(settings.model, settings.cache)
    for name, plan in plans.items():
        plan.check(model.name, out / f"{name}.json", earlier)
    embedded: dict[str, LabelledSet] = {}
    for name, plan in plans.items():
        sets = {}
        for role, images in plan.sets.items():
            key = images.model_dump_json()
            if key not in embedded:
                with shown.progress(f"{name}: {role}") as progress:
                    embedded[key] = model.embed(
                        images, max_failures=settings.max_failures, progress=progress
                    )
            sets[role] = embedded[key]
        found = plan.run(model, sets)
        found.save(out, name)
        yield name, found
