"""What is checked before any image is encoded, which may take hours."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from commands.console import Shown
from commands.model_source import ImagesOf, Opened
from debias.lessons import Material, load_candidates
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import load_prompt_set
from evaluation.protocol import Protocol, load_protocol, run_protocol
from evaluation.rank_measures import Compat
from evaluation.resampling import Resampling
from evaluation.results import Conditions, ProtocolRun, check_alike, load_result
from m4.errors import InputError
from pipelines.image_sets import ImageSetSettings, read_strings

RENAME = "give this result another name (--name, or its key in the file) or folder"


@dataclass(frozen=True, eq=False)
class Earlier:
    """A result of another model, to compare with."""

    path: Path
    run: ProtocolRun

    @classmethod
    def load(cls, path: Path) -> "Earlier":
        """Read it. Raises `InputError`."""
        return cls(path, ProtocolRun.load(path))


@dataclass(frozen=True, eq=False)
class Plan:
    """A protocol that is to be run.

    Attributes
    ----------
    digest : of the protocol
    sets : images, by their role in it
    compat, resampling : how it is run
    """

    protocol: Protocol
    digest: str
    sets: Mapping[str, ImagesOf]
    compat: Compat | None
    resampling: Resampling

    @classmethod
    def of(
        cls, name: str, sets: Mapping[str, ImagesOf], compat: Compat | None, resampling: Resampling
    ) -> "Plan":
        """Read a protocol and its prompts. Raises `InputError` where its sets are not given."""
        protocol = load_protocol(name)
        protocol.check(sets, compat)
        for role, images in sets.items():
            _check_labels(images, protocol.labels(role), f"protocol {protocol.name} reads")
        return cls(protocol, protocol.digest, sets, compat, resampling)

    def check(self, model: str, result: Path, earlier: Earlier | None) -> None:
        """Raise `InputError` where a result would be lost, or cannot be compared with.

        Parameters
        ----------
        model : what the model is called
        result : where this one will be written; a rerun of it may be there
        """
        if earlier is not None:
            if result.resolve() == earlier.path.resolve():
                raise InputError(
                    f"{result}: would be written over the result that it is compared with; {RENAME}"
                )
            self._check_alike(model, earlier)
        if not result.exists():
            return
        there = load_result(result)
        if (there.model, there.digest) != (model, self.digest):
            raise InputError(
                f"{result}: is the result of {there.model} by {there.protocol} and would be lost; "
                f"{RENAME}"
            )

    def embed(self, model: Opened, max_failures: float, shown: Shown) -> dict[str, LabelledSet]:
        """The sets by role, embedded by the model itself. Raises `InputError`."""
        found = {}
        for role, images in self.sets.items():
            with shown.progress(f"{model.name}: {role}") as progress:
                found[role] = model.embed(images, max_failures=max_failures, progress=progress)
        return found

    def run(self, model: Opened, sets: Mapping[str, LabelledSet]) -> ProtocolRun:
        """Measure a model on sets that it embedded, debiased by its method if it has one.

        Raises `InputError` as `run_protocol`.
        """
        return run_protocol(
            self.protocol,
            {role: model.debiased(images) for role, images in sets.items()},
            model.encode_texts,
            model=model.name,
            resampling=self.resampling,
            compat=self.compat,
        )

    def _check_alike(self, model: str, earlier: Earlier) -> None:
        found = earlier.run.result
        if found.model == model:
            raise InputError(
                f"{earlier.path}: its model is called {model} as well; tell the two apart by "
                "--model-name"
            )
        planned = Conditions(
            protocol=self.protocol.name,
            title=self.protocol.title,
            source=self.protocol.source,
            digest=self.digest,
            model=model,
            sets=found.sets,  # of ours nothing is known yet
            resampling=self.resampling,
            compat=self.compat,
        )
        check_alike(found, planned)


def check_material(material: Material, images: ImagesOf | None) -> None:
    """Raise `InputError` where its prompts cannot be read, or a table of labels lacks one of it."""
    for prompts in (material.classes, material.spurious):
        if prompts is not None:
            load_prompt_set(prompts)
    if material.candidates is not None:
        load_candidates(material.candidates)
    named = {name for name in (material.attribute, material.label) if name is not None}
    if images is not None:
        _check_labels(images, named, "methods are to learn from")
        _check_labels(images, material.caption_labels, "the caption names")


def _check_labels(images: ImagesOf, wanted: Set[str], why: str) -> None:
    """Raise `InputError` where a table of labels lacks one that is wanted."""
    if images.labels is None:
        return
    there = {*read_strings(images.labels).columns, *images.columns}
    if isinstance(images, ImageSetSettings):
        there.discard(images.file_column)
    missing = sorted(wanted - there)
    if missing:
        raise InputError(
            f"{images.labels}: no column {missing[0]!r}, which {why}; it has "
            f"{', '.join(sorted(there))}; name yours with --columns {missing[0]} YOURS"
        )
