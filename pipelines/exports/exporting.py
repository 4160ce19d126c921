"""Export: hand a manifest on, in the form that other tools read."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from m4.catalogue import Model
from pipelines.beam import Progress
from pipelines.exports.datacomp import export_datacomp, export_uids
from pipelines.exports.drawn import Exported
from pipelines.exports.huggingface import export_datasets
from pipelines.exports.mosaicml import export_mosaicml
from pipelines.exports.open_clip import open_clip_arguments
from pipelines.exports.webdataset import webdataset_function

Format = Literal["datacomp", "uids", "open-clip", "datasets", "mosaicml", "webdataset"]

NEEDS: Mapping[Format, set[str]] = {
    "datacomp": {"manifest", "output"},
    "uids": {"manifest", "output"},
    "open-clip": {"shards"},
    "datasets": {"manifest", "output"},
    "mosaicml": {"manifest", "output"},
    "webdataset": {"manifest"},
}


class ExportSettings(Model):
    """Settings of an export."""

    format: Format = Field(
        description="datacomp: subset .npy; uids: text; open-clip: arguments, for new shards; "
        "datasets, mosaicml: folders; webdataset: a function to paste"
    )
    manifest: str | None = Field(
        default=None, description="folder that apply or import-subset wrote, RUN/manifest"
    )
    shards: str | None = Field(
        default=None, description="of open-clip, instead of a manifest: folder that reshard wrote"
    )
    output: str | None = Field(
        default=None, description="file, or of datasets and mosaicml folder, that is written"
    )

    @model_validator(mode="after")
    def _effective(self) -> "ExportSettings":
        for name in ("manifest", "shards", "output"):
            is_given, is_needed = getattr(self, name) is not None, name in NEEDS[self.format]
            if is_needed and not is_given:
                raise ValueError(f"format {self.format} needs {name}; give it")
            if is_given and not is_needed:
                raise ValueError(f"{name} has no effect with format {self.format}; leave it out")
        return self


def export(settings: ExportSettings, *, progress: Progress | None = None) -> Exported:
    """Hand a manifest on.

    Parameters
    ----------
    progress : called with (shards read, shards in all); datacomp and uids read them twice

    Raises `InputError` where the input is no manifest, or the format cannot say what it says.
    """
    manifest, shards, output = settings.manifest or "", settings.shards or "", settings.output or ""
    match settings.format:
        case "datacomp":
            return export_datacomp(manifest, output, progress)
        case "uids":
            return export_uids(manifest, output, progress)
        case "open-clip":
            return open_clip_arguments(shards)
        case "datasets":
            return export_datasets(manifest, output, progress)
        case "mosaicml":
            return export_mosaicml(manifest, output, progress)
        case "webdataset":
            return webdataset_function(manifest, progress)
