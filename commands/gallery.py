"""Evaluate a trained model on a gallery: shards annotated with a catalogue."""

from pathlib import Path

import polars as pl
from pydantic import Field

from evaluation.evaluate import Evaluation
from evaluation.evaluate import evaluate as evaluate_embeddings
from evaluation.gallery import Gallery
from evaluation.gallery_measures import EvaluateSettings
from m4.catalogue import Catalogue, Model, load_catalogue
from m4.errors import InputError
from pipelines.beam import BeamSettings, Progress
from pipelines.record import Tally, digest_of
from pipelines.settings import AnnotateSettings, AnnotatorName
from pipelines.stages import annotate
from pipelines.tables import read_all, to_patterns
from training.encode import EncodedImages, encode_images, load_checkpoint


class EvaluateCommand(Model):
    """Settings of the stage that evaluates a checkpoint."""

    checkpoint: str = Field(description="a checkpoint, or a folder of them: the last is taken")
    shards: tuple[str, ...] = Field(description="held-out shards: the gallery")
    catalogue: str = Field(description="YAML file that says what to look for")
    run: str = Field(description="run directory; evaluation/<name>.json is written in it")
    name: str = Field(
        default="model-0", pattern=r"^.+-\d+$", description="<arm>-<seed>, for comparisons"
    )
    annotators: tuple[AnnotatorName, ...] = Field(
        default=("fields",), description="who marks the gallery"
    )
    protocol: EvaluateSettings = EvaluateSettings()
    beam: BeamSettings = BeamSettings()


def evaluate(settings: EvaluateCommand, *, progress: Progress | None = None) -> Evaluation:
    """Annotate the gallery, encode it with the model, take every measure and save the result.

    Raises `InputError` for unusable settings and inputs.
    """
    catalogue = load_catalogue(settings.catalogue)
    folder = Path(settings.run) / "gallery"
    annotate(
        AnnotateSettings(
            shards=settings.shards,
            catalogue=settings.catalogue,
            run=str(folder),
            annotators=settings.annotators,
            beam=settings.beam,
        )
    )
    tally = Tally(
        f"evaluate {settings.name}", settings.run, settings, digest_of(settings.checkpoint)
    )
    model = load_checkpoint(settings.checkpoint)
    annotations = str(folder / "annotations")
    encoded = encode_images(model, annotations, progress=progress)
    evaluation = evaluate_embeddings(
        encoded.features,
        gallery_of(annotations, encoded, catalogue),
        model.encode_texts,
        catalogue,
        settings.protocol,
    )
    out = Path(settings.run) / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    evaluation.save(out / f"{settings.name}.json")
    tally.add_rows(len(encoded.uids))
    tally.finish()
    return evaluation


def gallery_of(annotations: str, encoded: EncodedImages, catalogue: Catalogue) -> Gallery:
    """The annotations of the images that were encoded, in their order."""
    rows = pl.DataFrame({"uid": encoded.uids}).join(
        read_all(annotations), on="uid", how="left", maintain_order="left"
    )
    if len(rows) != len(encoded.uids):
        raise InputError(f"{annotations}: a uid is annotated twice; give each sample its own")
    patterns = to_patterns(rows.to_arrow(), catalogue)
    return Gallery.from_patterns(patterns, encoded.uids, encoded.captions, catalogue)
