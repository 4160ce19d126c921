"""Protocols: which images, labels, prompts and measures make a published evaluation."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from evaluation.bias_tasks import (
    AssociationBiasTask,
    AssociationsTask,
    MisclassificationTask,
    RepresentationBiasTask,
    ResolutionTask,
    RetrievalSkewTask,
)
from evaluation.draws import Draws
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import built_in_prompt_sets, load_prompt_set
from evaluation.quality_tasks import (
    ParityTask,
    RetrievalTask,
    WorstGroupTask,
    ZeroShotTask,
    able_draws,
)
from evaluation.rank_measures import Compat
from evaluation.resampling import Resampling
from evaluation.results import Conditions, ProtocolRun, SetUsed
from evaluation.tasks import Bench, Measured, Task
from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError, UndefinedError
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
    | ParityTask
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
        for name in (*self.tasks, *self.able):
            if ":" in name:
                raise ValueError(f"task {name!r}: figures are named 'task: subject'; leave out ':'")
        both = [name for name in self.able if name in self.tasks]
        if both:
            raise ValueError(f"able {both[0]}: a task has that name; give another")
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
        """SHA-256 of what is measured, prompts included; names, sources and paths may change.

        Raises `InputError` where prompts cannot be read.
        """
        named = [getattr(task, "prompts", None) for task in self.tasks.values()]
        left_out = {"tasks": {"__all__": {"prompts"}}}
        parts = [self.model_dump_json(include={"tasks", "able"}, exclude=left_out)]
        parts += ["" if name is None else load_prompt_set(name).digest for name in named]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def labels(self, role: str) -> set[str]:
        """Names of the labels that tasks read of a set."""
        return {
            name for task in self.tasks.values() if task.role == role for name in task.labels_read
        }

    def check(self, sets: Collection[str], compat: Compat | None) -> None:
        """Raise `InputError` unless these are its sets, and `compat` has an effect."""
        if set(sets) != self.sets.keys():
            raise InputError(
                f"protocol {self.name} wants "
                + "; ".join(f"{role}: {what}" for role, what in self.sets.items())
                + f"; given are {', '.join(sets) or 'none'}; several sets are named in a file for "
                "m4-balance evaluate suite"
            )
        if compat is not None and not any(task.knows_compat for task in self.tasks.values()):
            raise InputError(
                f"compat: nothing in protocol {self.name} has such quirks; leave it out"
            )


def built_in_protocols() -> tuple[str, ...]:
    """Names of the protocols that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_protocol(name: str) -> Protocol:
    """A built-in protocol by its name, or one's own by the path of its YAML file.

    Paths of prompts start at the folder of that file. Raises `InputError` naming the file and the
    key that is wrong.
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
        protocol = Protocol.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    tasks = {name: _from_folder(path.parent, task) for name, task in protocol.tasks.items()}
    return protocol.model_copy(update={"tasks": tasks})


def _from_folder(folder: Path, task: Task) -> Task:
    prompts = getattr(task, "prompts", None)
    if prompts is None or prompts in built_in_prompt_sets():
        return task
    return task.model_copy(update={"prompts": str(folder / prompts)})


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

    A task that raises `UndefinedError` is noted as such; if none has an answer, the first one's
    is raised. Raises `InputError` where a set is missing, or does not have what a task reads.
    """
    resampling = resampling or Resampling()
    protocol.check(sets, compat)
    bench = Bench(encode_texts, resampling, compat)
    found: dict[str, Measured] = {}
    undefined: dict[str, str] = {}
    for name, task in protocol.tasks.items():
        try:
            found[name] = task.run(sets[task.role], bench)
        except UndefinedError as error:  # the other tasks have their answers
            undefined[name] = str(error)
    if not found:
        raise UndefinedError(f"protocol {protocol.name}: {next(iter(undefined.values()))}")
    for name, able in protocol.able.items():
        parts = [able.accuracy, able.skew]
        lacking = [part for part in parts if part in undefined]
        if lacking:
            undefined[name] = f"{lacking[0]} is undefined"
            continue
        accuracy, skew = (found[part].headlines[0] for part in parts)
        found[name] = Measured((able_draws(accuracy, skew),))
    conditions = Conditions(
        protocol=protocol.name,
        title=protocol.title,
        source=protocol.source,
        digest=protocol.digest,
        model=model,
        sets={role: _used(each) for role, each in sets.items()},
        resampling=resampling,
        compat=compat,
        left_out={task: each.left_out for task, each in found.items() if each.left_out},
        empty={task: each.empty for task, each in found.items() if each.empty},
        undefined=undefined,
    )
    return ProtocolRun.of(
        conditions,
        [_of_task(task, draws) for task, each in found.items() for draws in each.headlines],
        [_of_task(task, draws) for task, each in found.items() for draws in each.tables],
    )


def _used(images: LabelledSet) -> SetUsed:
    return SetUsed(
        name=images.name,
        digest=images.digest,
        images=len(images),
        left_out=dict(images.left_out),
    )


def _of_task(task: str, draws: Draws) -> Draws:
    """With subjects written "task: name"."""
    return replace(draws, names=tuple(f"{task}: {name}" for name in draws.names))
