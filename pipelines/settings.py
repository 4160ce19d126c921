"""Settings of the stages, one class each; every command-line flag is one of their fields."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from m4.catalogue import Model
from m4.curve import FACTORS
from m4.points import Requirements
from m4.problem import Slack
from m4.solving import Method
from pipelines import storage
from pipelines.beam import BeamSettings
from pipelines.fusion import FusionRule

RESERVED = {
    "annotations", "evidence", "failures", "index", "truth", "checkpoints", "gallery", "evaluation",
}  # fmt: skip


def _free_name(name: str) -> str:
    if name in RESERVED or "/" in name:
        raise ValueError(f"{name} is not a free name in a run directory; choose another")
    return name


ManifestName = Annotated[str, AfterValidator(_free_name)]
"""The name of a manifest's folder in a run directory, which holds other folders too."""

AnnotatorName = Literal["captions", "fields", "tables", "embeddings", "pixels", "onnx"]

USED_BY: Mapping[str, set[AnnotatorName]] = {
    "languages": {"captions"},
    "names": {"captions"},
    "table": {"tables"},
    "embeddings": {"embeddings"},
    "embedding_key": {"embeddings"},
    "heads": {"embeddings", "pixels"},
    "marks": {"embeddings", "pixels"},
    "model": {"pixels"},
    "pretrained": {"pixels"},
    "preprocess_as": {"pixels"},
    "space": {"pixels"},
    "onnx": {"onnx"},
    "device": {"pixels", "onnx"},
}
NEEDS: Mapping[AnnotatorName, tuple[str, ...]] = {
    "tables": ("table",),
    "embeddings": ("embeddings", "heads"),
    "pixels": ("model", "pretrained", "heads"),
    "onnx": ("onnx",),
}


class AnnotateSettings(Model):
    """Settings of the stage that annotates shards."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    catalogue: str = Field(description="YAML file that says what to look for, or builtin:people")
    run: str = Field(description="run directory; annotations/ is written in it")
    annotators: tuple[AnnotatorName, ...] = Field(
        default=("captions",), min_length=1, description="who marks, in the order of their weight"
    )
    fusion: FusionRule = Field(
        default="first",
        description="first: the first annotator that knows an attribute decides; agree: it is "
        "known where none that knows it disagrees",
    )
    languages: tuple[str, ...] = Field(
        default=("en",),
        description="languages that captions are read in, ISO 639-1; others are counted and mark "
        "nothing",
    )
    names: bool = Field(default=False, description="given names count as terms of captions")
    table: str | None = Field(
        default=None, description="of annotator tables: a parquet with a column uid, or a folder"
    )
    embeddings: str | None = Field(
        default=None, description="of annotator embeddings: folder with a file for each shard"
    )
    embedding_key: str | None = Field(
        default=None, description="array of an .npz, or column of a parquet, with the embeddings"
    )
    heads: tuple[str, ...] = Field(
        default=(), description="heads that fit-head made, for embeddings or pixels"
    )
    model: str | None = Field(
        default=None, description="of annotator pixels: an architecture of open_clip"
    )
    pretrained: str | None = Field(default=None, description="its checkpoint, a file or a tag")
    preprocess_as: str | None = Field(
        default=None,
        description="tag of open_clip whose preprocessing a checkpoint file wants, where the tags "
        "of its architecture differ",
    )
    space: str | None = Field(
        default=None,
        description="name of the embedding space, for heads that were fitted elsewhere; "
        "ViT-B-32/openai",
    )
    onnx: tuple[str, ...] = Field(
        default=(), description="of annotator onnx: YAML files that declare ONNX models"
    )
    marks: Literal["decisions", "probabilities"] = Field(
        default="decisions",
        description="what heads give: yes, no and not known by their thresholds; or probabilities",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where models run; auto: CUDA where there is one"
    )
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of samples or shards that may be set aside"
    )
    beam: BeamSettings = BeamSettings()

    @property
    def decide(self) -> bool:
        """Whether heads decide by their thresholds."""
        return self.marks == "decisions"

    @model_validator(mode="after")
    def _effective(self) -> "AnnotateSettings":
        named = set(self.annotators)
        if len(named) < len(self.annotators):
            raise ValueError("annotators: one is named twice")
        for name, users in USED_BY.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and not named & users:
                raise ValueError(
                    f"{name} has no effect without annotator {' or '.join(sorted(users))}; name "
                    "it among the annotators, or leave it out"
                )
        for annotator in self.annotators:
            for name in NEEDS.get(annotator, ()):
                if not getattr(self, name):
                    raise ValueError(f"annotator {annotator} needs {name}; give it")
        if self.fusion != "first" and len(named) < 2 and len(self.onnx) < 2:
            raise ValueError(f"fusion {self.fusion} has no effect with one annotator; leave it out")
        return self


class CountSettings(Model):
    """Settings of the stage that counts patterns."""

    run: str = Field(description="run directory with annotations/; patterns.parquet is written")
    catalogue: str = Field(description="the YAML file that the annotations were made with")
    drawn: bool = Field(
        default=False, description="count what the manifest drew, into drawn.parquet"
    )
    partitions: int = Field(
        default=16,
        ge=1,
        le=65536,
        description="parts that are counted apart, a power of two; the result is the same",
    )
    beam: BeamSettings = BeamSettings()

    @field_validator("partitions")
    @classmethod
    def _power_of_two(cls, partitions: int) -> int:
        if partitions & (partitions - 1):
            raise ValueError("not a power of two; take 16, 32, 64, ...")
        return partitions

    @property
    def output(self) -> str:
        return storage.join(self.run, "drawn.parquet" if self.drawn else "patterns.parquet")


class ApplySettings(Model):
    """Settings of the stage that draws a manifest."""

    run: str = Field(description="run directory with annotations/")
    catalogue: str = Field(description="the YAML file that the annotations were made with")
    policy: str | None = Field(
        default=None, description="policy.json; left out, every sample is used once"
    )
    manifest: ManifestName = Field(
        default="manifest", description="name of the folder that is written"
    )
    seed: int = Field(default=0, ge=0, description="another seed draws another sample")
    epoch: int = Field(default=0, ge=0, description="another epoch draws afresh")
    weights: bool = Field(
        default=False,
        description="write weights too, for redrawing each epoch: in at most 32 levels, as exact "
        "ones would name patterns; takes patterns.parquet",
    )
    opt_out_uids: tuple[str, ...] = Field(
        default=(),
        description="files of uids that are never drawn: text, DataComp's .npy, or parquet with a "
        "column uid",
    )
    opt_out_urls: tuple[str, ...] = Field(
        default=(),
        description="files of URLs that are never drawn, or of SHA-256 of URLs: text, or parquet "
        "with a column url or url_sha256",
    )
    design: Literal["poisson", "calibrated"] = Field(
        default="poisson",
        description="calibrated: a policy's thresholds are corrected until the copies drawn, not "
        "only their mean, meet the tolerances; takes patterns.parquet and a few passes more",
    )
    beam: BeamSettings = BeamSettings()

    @model_validator(mode="after")
    def _effective(self) -> "ApplySettings":
        if self.design == "calibrated" and self.policy is None:
            raise ValueError("design calibrated has no effect without a policy; give one")
        return self


class SolveSettings(Model):
    """Settings of the stage that solves for a policy. Targets and tolerances: the catalogue's."""

    run: str = Field(description="run directory with patterns.parquet; policy.json is written")
    catalogue: str = Field(description="the YAML file that the patterns were made with")
    eta: float = Field(default=0.9, gt=0, description="rate that is kept, the mean weight")
    cap: float = Field(default=1.0, gt=0, description="largest weight; 1: keep probabilities")
    penalty: float | None = Field(
        default=None, gt=0, description="price of a violation; left out, tolerances are hard"
    )
    tolerance_factor: float | None = Field(
        default=None, ge=0, description="common factor on the catalogue's tolerances; 1"
    )
    min_ess: float | None = Field(
        default=None,
        gt=0,
        description="choose the factor with this effective sample size; below 1, a share",
    )
    target_deff: float | None = Field(
        default=None, ge=1, description="choose the factor with this design effect, N / ESS"
    )
    slack: Slack = Field(
        default="l1", description="what has the price: violations, or with l2 half their squares"
    )
    method: Method | Literal["passes"] = Field(
        default="auto",
        description="auto: exact; passes: exact, from annotations whose patterns do "
        "not fit one machine; cvxpy: a general solver; streaming: the paper's",
    )
    solver: str | None = Field(default=None, description="the solver that cvxpy calls")
    passes: int | None = Field(
        default=None, ge=1, description="of the streaming method, 5; at most, of passes, 20"
    )
    seed: int | None = Field(default=None, ge=0, description="of the streaming method; 0")
    sample: int | None = Field(
        default=None, ge=1, description="examples that passes start from; 1,000,000"
    )
    beam: BeamSettings = BeamSettings()

    @model_validator(mode="after")
    def _effective(self) -> "SolveSettings":
        by_passes = self.method == "passes"
        for name, wrong in (
            ("sample", not by_passes),
            ("min_ess", by_passes),
            ("target_deff", by_passes),
            ("solver", by_passes),
            ("seed", by_passes),
        ):
            if wrong and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect with method {self.method}; leave it out")
        if not by_passes and self.beam != BeamSettings():
            raise ValueError(f"a runner has no effect with method {self.method}; leave it out")
        return self


class CurveSettings(Model):
    """Settings of the cost curve. Targets and tolerances: the catalogue's."""

    run: str = Field(description="run directory with patterns.parquet; curve.json is written")
    catalogue: str = Field(description="the YAML file that the patterns were made with")
    etas: tuple[float, ...] = Field(default=(0.5, 0.7, 0.9), min_length=1, description="rates")
    factors: tuple[float, ...] = Field(
        default=FACTORS, min_length=1, description="common factors on all tolerances"
    )
    caps: tuple[float, ...] = Field(
        default=(1.0, 2.0, 4.0), min_length=1, description="largest weights"
    )
    penalty: float | None = Field(
        default=None, gt=0, description="price of a violation; left out, tolerances are hard"
    )
    min_ess: float | None = Field(
        default=None,
        gt=0,
        description="choose a point with this effective sample size; below 1, a share",
    )
    target_deff: float | None = Field(
        default=None, ge=1, description="choose a point with this design effect at most, N / ESS"
    )
    max_weight: float | None = Field(
        default=None, gt=0, description="choose a point with this cap at most; replaces larger caps"
    )

    @property
    def requirements(self) -> Requirements:
        """What the point that is chosen has to satisfy."""
        return Requirements(
            min_ess=self.min_ess, target_deff=self.target_deff, max_weight=self.max_weight
        )

    @property
    def allowed_caps(self) -> tuple[float, ...]:
        """The caps, those above max_weight lowered to it."""
        if self.max_weight is None:
            return self.caps
        return tuple(sorted({min(cap, self.max_weight) for cap in self.caps}))


class VerifyPolicySettings(Model):
    """Settings of the check of a policy against annotations. The run directory is not changed."""

    run: str = Field(description="run directory with annotations/")
    catalogue: str = Field(description="the YAML file that the annotations were made with")
    policy: str | None = Field(
        default=None, description="the policy; policy.json of the run where it is left out"
    )
    beam: BeamSettings = BeamSettings()
