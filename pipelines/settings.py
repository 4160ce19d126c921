"""Settings of the stages, one class each; every command-line flag is one of their fields."""

from pydantic import Field

from m4.catalogue import Model
from m4.solving import Method
from pipelines import storage
from pipelines.annotators import AnnotatorName
from pipelines.beam import BeamSettings


class AnnotateSettings(Model):
    """Settings of the stage that annotates shards."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    catalogue: str = Field(description="YAML file that says what to look for")
    run: str = Field(description="run directory; annotations/ is written in it")
    annotators: tuple[AnnotatorName, ...] = Field(
        default=("captions",), description="who marks; the first that knows an attribute wins"
    )
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of samples or shards that may be set aside"
    )
    beam: BeamSettings = BeamSettings()


class CountSettings(Model):
    """Settings of the stage that counts patterns."""

    run: str = Field(description="run directory with annotations/; patterns.parquet is written")
    catalogue: str = Field(description="the YAML file that the annotations were made with")
    drawn: bool = Field(
        default=False, description="count what the manifest drew, into drawn.parquet"
    )
    beam: BeamSettings = BeamSettings()

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
    manifest: str = Field(default="manifest", description="name of the folder that is written")
    seed: int = Field(default=0, ge=0, description="another seed draws another sample")
    epoch: int = Field(default=0, ge=0, description="another epoch draws afresh")
    weights: bool = Field(
        default=False,
        description="write weights too, for redrawing each epoch; weights name patterns",
    )
    beam: BeamSettings = BeamSettings()


class SolveSettings(Model):
    """Settings of the stage that solves for a policy. Targets and tolerances: the catalogue's."""

    run: str = Field(description="run directory with patterns.parquet; policy.json is written")
    catalogue: str = Field(description="the YAML file that the patterns were made with")
    eta: float = Field(default=0.9, gt=0, description="rate that is kept, the mean weight")
    cap: float = Field(default=1.0, gt=0, description="largest weight; 1: keep probabilities")
    penalty: float | None = Field(
        default=None, gt=0, description="price of a violation; left out, tolerances are hard"
    )
    method: Method = Field(default="auto", description="auto and cvxpy: exact; streaming: paper's")
    solver: str | None = Field(default=None, description="the solver that cvxpy calls")
    passes: int | None = Field(default=None, ge=1, description="of the streaming method; 5")
    seed: int | None = Field(default=None, ge=0, description="of the streaming method; 0")
