"""Evaluate one model on one gallery: every measure, in one record that is kept as JSON."""

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from evaluation.bias import AssociationBias, RepresentationBias
from evaluation.draws import Measurement
from evaluation.gallery import Gallery, GalleryCounts
from evaluation.gallery_measures import (
    Asked,
    EvaluateSettings,
    measure_association,
    measure_by_group,
    measure_label_associations,
    measure_representation,
    measure_retrieval,
    measure_zero_shot,
)
from evaluation.quality import WorstGroup, ZeroShot
from evaluation.retrieval import Retrieval
from m4.catalogue import Catalogue, Model, explain
from m4.errors import InputError
from m4.files import write_whole
from vision.prompts import TextEncoder


class Evaluation(Model):
    """What one model is worth on one gallery. By attribute where the measure has one.

    `label_associations` has, by sensitive value, the C-ASC of each label
    (`evaluation.words`): how much nearer the model puts it to people of that value than to
    others. `measurements` has the headline figures with their intervals and null values.
    `left_out` says in words which measure could not be taken for which attribute, and why.
    Counts are as they are: a report must suppress small ones.
    """

    catalogue: str
    catalogue_digest: str
    settings: EvaluateSettings
    gallery: GalleryCounts
    representation: dict[str, RepresentationBias]
    association: dict[str, AssociationBias]
    retrieval: Retrieval
    zero_shot: ZeroShot
    worst_group: dict[str, WorstGroup]
    label_associations: dict[str, dict[str, float]]
    measurements: dict[str, Measurement]
    left_out: tuple[str, ...]

    def headline(self) -> dict[str, float]:
        """One figure per measure, the worst over attributes where there are several.

        `association_bias_mean` is the mean over pairs of labels and attributes.
        """
        return {name: found.value for name, found in self.measurements.items()}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_whole(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote; raises `InputError` naming the file and what is wrong."""
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        except ValidationError as error:
            raise InputError(f"{path}: not an evaluation: {explain(error)}") from None


def evaluate(
    images: np.ndarray,
    gallery: Gallery,
    encode_texts: TextEncoder,
    catalogue: Catalogue,
    settings: EvaluateSettings | None = None,
) -> Evaluation:
    """Take every measure of one model on one gallery.

    Parameters
    ----------
    images : (n, d) image embeddings, in the order of the gallery; of any length
    gallery : the n images' captions and marks
    encode_texts : the same model's text encoder, called with the captions and with the prompts
    catalogue : the one that the gallery was annotated with
    settings : None for the defaults

    Raises `InputError` where the inputs do not fit together, an embedding has no direction, or a
    measure cannot be taken for any attribute.
    """
    asked = Asked.of(images, gallery, encode_texts, catalogue, settings or EvaluateSettings())
    representation, association = measure_representation(asked), measure_association(asked)
    by_group, found_retrieval = measure_by_group(asked), measure_retrieval(asked)
    classified = measure_zero_shot(asked)
    parts = (representation, association, found_retrieval, classified, by_group)
    level = asked.settings.resampling.level
    headlines = {name: draws for part in parts for name, draws in part.headlines.items()}
    return Evaluation(
        catalogue=catalogue.name,
        catalogue_digest=catalogue.digest,
        settings=asked.settings,
        gallery=gallery.counts(),
        representation=representation.found,
        association=association.found,
        retrieval=found_retrieval.found,
        zero_shot=classified.found,
        worst_group=by_group.found,
        label_associations=measure_label_associations(asked),
        measurements={name: draws.measurements(level)[0] for name, draws in headlines.items()},
        left_out=(*representation.left_out, *association.left_out, *by_group.left_out),
    )
