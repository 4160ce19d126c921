"""One set of images on a command line, where a settings file would name it."""

from typing import TypeVar

from pydantic import Field, ValidationError, model_validator

from m4.catalogue import Model, explain
from pipelines.image_sets import ImageSetSettings
from pipelines.labelled_images import Selection
from pipelines.plain_embeddings import PlainSettings

FIELDS = tuple(dict.fromkeys([*ImageSetSettings.model_fields, *PlainSettings.model_fields]))
WHICH = "which images? Give one of images and embeddings"
Part = TypeVar("Part", bound=Model)


class OneSet(Selection):
    """Pictures, or embeddings in their place, with their labels."""

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

    @model_validator(mode="after")
    def _one_kind(self) -> "OneSet":
        try:
            self.given_set()
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        return self

    def one_set(self) -> ImageSetSettings | PlainSettings:
        """What is given, by kind. Raises `ValueError` where that is nothing."""
        found = self.given_set()
        if found is None:
            raise ValueError(WHICH)
        return found

    def given_set(self) -> ImageSetSettings | PlainSettings | None:
        """What is given, by kind; None: nothing. Raises `ValueError` where it is of both kinds."""
        given = {each: getattr(self, each) for each in FIELDS}
        given = {each: value for each, value in given.items() if value not in (None, {})}
        if not given:
            return None
        if (self.images is None) == (self.embeddings is None):
            raise ValueError(WHICH)
        kind = ImageSetSettings if self.embeddings is None else PlainSettings
        strange = [each for each in given if each not in kind.model_fields]
        if strange:
            what = "pictures" if self.embeddings is None else "embeddings that are given"
            raise ValueError(f"{strange[0]} has no effect on {what}; leave it out")
        return kind.model_validate(given)


def part_of(kind: type[Part], given: Model) -> Part:
    """The settings of one kind among those of a command that has them all as flags."""
    return kind(**{name: getattr(given, name) for name in kind.model_fields})
