"""Protocols: which images, labels, prompts and measures make a published evaluation."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from evaluation.draws import Draws
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import load_prompt_set
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun, SetUsed
from evaluation.tasks import (
    AssociationBiasTask,
    AssociationsTask,
    Bench,
    Compat,
    MisclassificationTask,
    RepresentationBiasTask,
    ResolutionTask,
    RetrievalSkewTask,
    RetrievalTask,
    WorstGroupTask,
    ZeroShotTask,
    able_draws,
)
from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError
from vision.prompts import TextEncoder

FOLDER = Path(str(files("evaluation"))) / "protocols"

AnyTask = Annotated[
    RepresentationBiasTask
    | AssociationBiasTask
    | AssociationsTask
    | MisclassificationTask
    | ResolutionTask
    | RetrievalSkewTask
    | RetrievalTask
    | WorstGroupTask
    | ZeroShotTask,
    Field(discriminator="kind"),
]


class Able(Model):
    """ABLE: accuracy and fairness in one figure, of two tasks of the protocol."""

    accuracy: str = Field(description="name of the zero-shot task")
    skew: str = Field(description="name of the retrieval skew task")


class Protocol(Model):
    """A declaration of an evaluation.

    Attributes
    ----------
    name, title, source : what it is called, and where it was published
    sets : what images it wants, by role, in words; "images" where there is one
    tasks : what is measured, by the name that its figures carry
    able : where ABLE is part of it
    """

    name: str
    title: str
    source: str
    sets: dict[str, str]
    tasks: dict[str, AnyTask]
    able: dict[str, Able] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "Protocol":
        if not self.tasks:
            raise ValueError("tasks: give at least one")
        for name, task in self.tasks.items():
            if task.role not in self.sets:
                raise ValueError(
                    f"task {name} is measured on {task.role!r}; the sets are {', '.join(self.sets)}"
                )
        for name, each in self.able.items():
            for part, kind in ((each.accuracy, ZeroShotTask), (each.skew, RetrievalSkewTask)):
                if not isinstance(self.tasks.get(part), kind):
                    raise ValueError(f"able {name}: {part!r} is no task of that kind")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what is measured, prompts included; names and sources may change."""
        named = [getattr(task, "prompts", None) for task in self.tasks.values()]
        parts = [self.model_dump_json(include={"tasks", "able"})]
        parts += [load_prompt_set(name).digest for name in named if name is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def built_in_protocols() -> tuple[str, ...]:
    """Names of the protocols that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_protocol(name: str) -> Protocol:
    """A built-in protocol by its name, or one's own by the path of its YAML file.

    Raises `InputError` naming the file and the key that is wrong.
    """
    if name in built_in_protocols():
        path = FOLDER / f"{name}.yaml"
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        raise InputError(
            f"protocol: {name!r} is none of {', '.join(built_in_protocols())}, and no YAML file"
        )
    try:
        return Protocol.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def run_protocol(
    protocol: Protocol,
    sets: Mapping[str, LabelledSet],
    encode_texts: TextEncoder,
    *,
    model: str,
    resampling: Resampling | None = None,
    compat: Compat | None = None,
) -> ProtocolRun:
    """Take every measure of a protocol.

    Parameters
    ----------
    sets : labelled images by role, embedded by the model
    encode_texts : the same model's text encoder
    model : name of the embedding space, for the record
    compat : reproduce the quirks of published code, for comparison with its figures

    Raises `InputError` where a set is missing, or does not have what a task reads.
    """
    resampling = resampling or Resampling()
    if sets.keys() != protocol.sets.keys():
        raise InputError(
            f"protocol {protocol.name} wants "
            + "; ".join(f"{role}: {what}" for role, what in protocol.sets.items())
            + f"; given are {', '.join(sets) or 'none'}"
        )
    if compat is not None and not any(task.knows_compat for task in protocol.tasks.values()):
        raise InputError(
            f"compat: nothing in protocol {protocol.name} has such quirks; leave it out"
        )
    bench = Bench(encode_texts, resampling, compat)
    found = {
        name: _headlines_first(task.draws(sets[task.role].where(task.where), bench))
        for name, task in protocol.tasks.items()
    }
    for name, able in protocol.able.items():
        found[name] = (able_draws(found[able.accuracy][0], found[able.skew][0]),)
    return ProtocolRun.of(
        draws=[
            replace(each, names=tuple(f"{task}: {name}" for name in each.names))
            for task, draws in found.items()
            for each in draws
        ],
        resampling=resampling,
        protocol=protocol.name,
        title=protocol.title,
        source=protocol.source,
        digest=protocol.digest,
        model=model,
        sets={
            role: SetUsed(
                name=each.name,
                digest=each.digest,
                images=len(each),
                left_out=dict(each.left_out),
            )
            for role, each in sets.items()
        },
        compat=compat,
    )


def _headlines_first(draws: tuple[Draws, ...]) -> tuple[Draws, ...]:
    return tuple(sorted(draws, key=lambda each: len(each.names) > 1))
