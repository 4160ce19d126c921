"""Which annotators a job asks: from settings to annotators, models shared within a process."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from m4.catalogue import Catalogue, Mark
from m4.errors import InputError
from pipelines import storage
from pipelines.annotators.fields import FieldAnnotator, TableAnnotator
from pipelines.annotators.joined import JoinedTable
from pipelines.annotators.marks import Annotator
from pipelines.captions.annotator import CaptionAnnotator, check_languages
from pipelines.metadata_tables import check_pictures
from pipelines.record import digest_of
from pipelines.shards import ShardRef
from pipelines.tables import annotation_schema
from vision.onnx_declaration import declared_model

if TYPE_CHECKING:
    from pipelines.settings import AnnotateSettings


LOOKING = {"pixels", "onnx"}  # annotators that look at pictures


class Models:
    """Models and lexicons that annotators of one process share; each is loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, name: str, load: Callable[[], Any]) -> Any:
        """The model of this name, loaded if it is not there yet."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load()
            return self._loaded[name]


def make_annotators(
    settings: "AnnotateSettings", catalogue: Catalogue, models: Models
) -> list[Annotator]:
    """The annotators that settings name, in their order.

    Raises `InputError` as `check_annotators` does.
    """
    makers = _makers(settings, catalogue, models)
    return [annotator for name in settings.annotators for annotator in makers[name]()]


def check_annotators(settings: "AnnotateSettings", catalogue: Catalogue) -> None:
    """Raise `InputError` where one could say nothing with this catalogue, or lacks what it needs.

    Annotators are made for that, but for the one of captions: its lexicon takes seconds to make.
    """
    makers = _makers(settings, catalogue, Models())
    for name in settings.annotators:
        if name == "captions":
            _check_captions(settings, catalogue)
        else:
            list(makers[name]())


def check_shards(settings: "AnnotateSettings", shards: Sequence[ShardRef]) -> None:
    """Raise `InputError` where an annotator looks at pictures that shards do not have."""
    for name in settings.annotators:
        if name in LOOKING:
            check_pictures(shards, f"annotator {name!r}")


def _makers(
    settings: "AnnotateSettings", catalogue: Catalogue, models: Models
) -> dict[str, Callable[[], Iterator[Annotator]]]:
    return {
        "captions": lambda: _captions(settings, catalogue, models),
        "fields": lambda: _fields(catalogue),
        "tables": lambda: _tables(settings, catalogue),
        "embeddings": lambda: _embeddings(settings, catalogue),
        "pixels": lambda: _pixels(settings, catalogue, models),
        "onnx": lambda: _onnx(settings, catalogue, models),
    }


def _require(name: str, key: str, catalogue: Catalogue, has: Callable[[Mark], object]) -> None:
    if not any(has(mark) for _, mark in catalogue.each_mark()):
        raise InputError(
            f"annotator {name!r} has nothing to look for: no value or label of catalogue "
            f"{catalogue.name!r} has `{key}`"
        )


def _check_captions(settings: "AnnotateSettings", catalogue: Catalogue) -> None:
    _require("captions", "terms", catalogue, lambda mark: mark.terms or mark.translations)
    check_languages(catalogue, settings.languages)


def _captions(
    settings: "AnnotateSettings", catalogue: Catalogue, models: Models
) -> Iterator[Annotator]:
    _check_captions(settings, catalogue)

    def load() -> CaptionAnnotator:  # holds lexicons and nothing of a shard
        return CaptionAnnotator(catalogue, languages=settings.languages, names=settings.names)

    yield models.get("captions", load)


def _fields(catalogue: Catalogue) -> Iterator[Annotator]:
    _require("fields", "field", catalogue, lambda mark: mark.field)
    yield FieldAnnotator(catalogue)


def _tables(settings: "AnnotateSettings", catalogue: Catalogue) -> Iterator[Annotator]:
    _require("tables", "field", catalogue, lambda mark: mark.field)
    assert settings.table is not None  # the settings have seen to it
    yield TableAnnotator(catalogue, JoinedTable(settings.table))


def _heads(settings: "AnnotateSettings") -> list[Any]:
    from vision.heads import load_head

    return [load_head(path) for path in settings.heads]


def _embeddings(settings: "AnnotateSettings", catalogue: Catalogue) -> Iterator[Annotator]:
    from pipelines.annotators.embeddings import EmbeddingAnnotator, EmbeddingTables

    assert settings.embeddings is not None  # the settings have seen to it
    tables = EmbeddingTables(settings.embeddings, settings.embedding_key)
    yield EmbeddingAnnotator(catalogue, _heads(settings), tables, settings.decide)


def _pixels(
    settings: "AnnotateSettings", catalogue: Catalogue, models: Models
) -> Iterator[Annotator]:
    from pipelines.annotators.pixels import PixelAnnotator
    from vision.embedder import load_embedder

    assert settings.model is not None  # the settings have seen to it
    load = partial(
        load_embedder,
        settings.model,
        settings.pretrained,
        device=settings.device,
        preprocess_as=settings.preprocess_as,
        name=settings.space,
    )
    embedder = models.get("embedder", load)
    yield PixelAnnotator(catalogue, embedder, _heads(settings), settings.decide)


def _onnx(
    settings: "AnnotateSettings", catalogue: Catalogue, models: Models
) -> Iterator[Annotator]:
    from pipelines.annotators.pixels import OnnxAnnotator
    from vision.onnx_model import load_onnx_model

    for path in settings.onnx:
        load = partial(load_onnx_model, path, device=settings.device)
        yield OnnxAnnotator(catalogue, models.get(path, load))


def settings_digest(settings: "AnnotateSettings", catalogue: Catalogue) -> str:
    """Digest of everything that decides what a shard's annotations say.

    Models and tables count by their sizes and times, which is what can be had of gigabytes. So do
    the names of the columns: what another version wrote without one of them is annotated again.
    """
    chosen = settings.model_dump_json(exclude={"shards", "run", "max_failures", "beam", "device"})
    files = [*settings.heads, *settings.onnx, *map(declared_model, settings.onnx)]
    files += [each for each in (settings.table, settings.embeddings, settings.pretrained) if each]
    columns = annotation_schema(catalogue).names
    return digest_of(catalogue.digest, chosen, *columns, *_fingerprints(files))


def _fingerprints(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        for each in [path, *storage.files(path, "*")]:
            try:
                size, modified = storage.size_and_time(each)
            except OSError:
                continue  # a tag, not a file; or a folder on remote storage
            yield f"{each} {size} {modified}"
