"""Which model is evaluated: a checkpoint, an open_clip model, or embeddings made elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from debias.method import Method, load_method
from evaluation.labelled_set import LabelledSet
from m4.catalogue import Model
from m4.errors import InputError
from pipelines.beam import Progress
from pipelines.embedding_cache import cached_texts, embedded_set
from pipelines.encoded_sets import EncodedSet
from pipelines.image_sets import ImageSetSettings
from pipelines.plain_embeddings import PlainSettings, read_plain, read_texts
from training.checkpoints import checkpoint_path, checkpoint_steps
from training.encode import load_checkpoint
from vision.embedder import Embedder, load_embedder, usable_device
from vision.prompts import TextEncoder


def _kind(given: Any) -> str:
    """Embeddings where there is a key `embeddings`, else pictures."""
    named = isinstance(given, Mapping) and "embeddings" in given
    return "embeddings" if named or isinstance(given, PlainSettings) else "pictures"


ImagesOf = Annotated[
    Annotated[ImageSetSettings, Tag("pictures")] | Annotated[PlainSettings, Tag("embeddings")],
    Discriminator(_kind),
]


class PlainSource(Model):
    """A model, by one of: `checkpoint`; `model` with `pretrained`; `texts` with `text_names`."""

    checkpoint: str | None = Field(
        default=None, description="that `train` wrote, or a folder of them: the last is taken"
    )
    model: str | None = Field(default=None, description="an architecture of open_clip")
    pretrained: str | None = Field(
        default=None, description="its checkpoint: a file, or a tag, which open_clip fetches"
    )
    preprocess_as: str | None = Field(
        default=None,
        description="tag of open_clip whose preprocessing a checkpoint file wants, where the tags "
        "of its architecture differ",
    )
    device: str = Field(default="auto", description="where it runs; auto: CUDA where there is one")
    texts: str | None = Field(
        default=None, description="instead of a model: .npy (n, d) with embeddings of prompts"
    )
    text_names: str | None = Field(
        default=None, description="json list of the n prompts that --texts embeds"
    )
    model_name: str | None = Field(
        default=None,
        description="what results call it; needed with --texts. Left out: folder and file of a "
        "checkpoint, architecture and tag or file of an open_clip model",
    )

    @model_validator(mode="after")
    def _one(self) -> "PlainSource":
        ways = {
            "checkpoint": (self.checkpoint,),
            "model, pretrained": (self.model, self.pretrained),
            "texts, text_names": (self.texts, self.text_names),
        }
        begun = [way for way, parts in ways.items() if any(part is not None for part in parts)]
        if len(begun) != 1 or None in ways[begun[0]]:
            raise ValueError(
                f"which model? Give all of one of: {'; or '.join(ways)}"
                + (f"; given is something of {' and of '.join(begun)}" if begun else "")
            )
        if self.texts is not None and not self.model_name:
            raise ValueError("model_name: what is the model called that made the embeddings?")
        if self.preprocess_as is not None and self.model is None:
            raise ValueError("preprocess_as has no effect without model; leave it out")
        if self.texts is not None and self.device != "auto":
            raise ValueError("device has no effect on embeddings that are given; leave it out")
        return self


class ModelSource(PlainSource):
    """A model as it is, or with a method that debiases its embeddings."""

    repaired_by: str | None = Field(
        default=None, description="folder of a debiasing method that `debias fit` wrote"
    )


@dataclass(frozen=True, eq=False)
class Opened:
    """A model ready to measure.

    Attributes
    ----------
    name : what results call it
    space : name of the embedding space
    encode_texts : its text encoder
    embedder : None where embeddings are given
    cache : folder for embeddings; None: nothing is kept
    method : that debiases all embeddings, those that `encode_texts` gives too; None: none
    """

    name: str
    space: str
    encode_texts: TextEncoder
    embedder: Embedder | None
    cache: str | None
    method: Method | None = None

    def repaired(self, method: Method) -> "Opened":
        """The same model with a debiasing method, which its name says."""

        def encode_texts(texts: Sequence[str]) -> np.ndarray:
            moved: np.ndarray = method.transform_texts(self.encode_texts(texts), texts)
            return moved

        return replace(
            self,
            name=f"{self.name} + {type(method).__name__}",
            encode_texts=encode_texts,
            method=method,
        )

    def embed(
        self, images: ImagesOf, *, max_failures: float = 0.01, progress: Progress | None = None
    ) -> LabelledSet:
        """Labelled images as the model itself embeds them, from the cache where they are there.

        Raises `InputError` where the images cannot be read, or are not of the kind the model wants.
        """
        if isinstance(images, PlainSettings):
            if self.embedder is not None:
                raise InputError(
                    f"{images.embeddings}: embeddings of images go with embeddings of texts "
                    "(texts, text_names, model_name), not with a model; give pictures instead"
                )
            return _labelled(read_plain(images))
        if self.embedder is None:
            raise InputError(
                f"{images.images}: pictures need a model; give checkpoint, or model and pretrained"
            )
        return _labelled(
            embedded_set(
                images, self.embedder, self.cache, max_failures=max_failures, progress=progress
            )
        )

    def debiased(self, images: LabelledSet) -> LabelledSet:
        """Images embedded by the model itself, with debiased embeddings where there is a method."""
        if self.method is None:
            return images
        moved = self.method.transform_images(images.embeddings, images.keys)
        return replace(images, embeddings=moved)


def open_model(source: ModelSource, cache: str | None) -> Opened:
    """Load a model, or the embeddings in place of one, and its method. Raises `InputError`."""
    opened = open_plain(source, cache)
    if source.repaired_by is None:
        return opened
    method = load_method(source.repaired_by, space=opened.space)
    return opened.repaired(method)


def open_plain(source: PlainSource, cache: str | None) -> Opened:
    """Load a model, or the embeddings in place of one. Raises `InputError`."""
    if source.texts is not None and source.text_names is not None:
        if cache is not None:
            raise InputError("cache has no effect on embeddings that are given; leave it out")
        table = read_texts(source.texts, source.text_names)
        space = str(source.model_name)
        return Opened(space, space, table.encode_texts, None, None)
    if source.checkpoint is not None:
        path = _checkpoint_file(Path(source.checkpoint))
        embedder = load_checkpoint(path, device=usable_device(source.device))
        # The folder says what was trained, the digest in the name of the space tells runs apart.
        name = f"{path.resolve().parent.name}/{embedder.name.rpartition('/')[2]}"
    else:
        embedder = load_embedder(
            str(source.model),
            source.pretrained,
            device=source.device,
            preprocess_as=source.preprocess_as,
        )
        name = embedder.name
    texts = cached_texts(embedder, cache)
    return Opened(source.model_name or name, embedder.name, texts, embedder, cache)


def _checkpoint_file(path: Path) -> Path:
    """The last checkpoint of a folder; the path itself where it is none that has any."""
    steps = checkpoint_steps(path)
    return checkpoint_path(path, steps[-1]) if steps else path


def _labelled(encoded: EncodedSet) -> LabelledSet:
    return LabelledSet(
        name=encoded.name,
        digest=encoded.digest,
        keys=encoded.keys,
        embeddings=encoded.embeddings,
        labels=encoded.labels,
        captions=encoded.captions,
        classes=encoded.classes,
        templates=encoded.templates,
        left_out={**encoded.left_out, **Counter(each.reason for each in encoded.failures)},
    )
