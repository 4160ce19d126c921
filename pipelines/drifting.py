"""Drift: whether the policy of some annotations still balances newer ones."""

from pydantic import Field

from m4.catalogue import Model, load_catalogue
from m4.drift import Drift, drift_of
from pipelines.beam import BeamSettings, Progress
from pipelines.verification import measure_policy


class DriftSettings(Model):
    """Settings of the check of a policy on newer annotations. The run directory is not changed."""

    run: str = Field(description="run directory with annotations/ of the new shards")
    catalogue: str = Field(description="the YAML file that they were made with")
    policy: str = Field(description="the policy, which was solved on other shards")
    margin: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="drift that does not matter: a share added to every tolerance, and of the rate",
    )
    beam: BeamSettings = BeamSettings()


def drift(settings: DriftSettings, *, progress: Progress | None = None) -> Drift:
    """Find out whether a policy still balances a run's annotations. One pass over the tables.

    The result is the same for any number of workers.

    Raises `InputError` where there are no annotations, where policy, annotations and catalogue do
    not belong together, and where the policy weighs nothing.
    """
    catalogue = load_catalogue(settings.catalogue)
    path, purpose = settings.policy, "check a policy on"
    found = measure_policy(path, catalogue, settings.run, settings.beam, purpose, progress)
    measured = found.measured
    return drift_of(found.policy, measured.plain, measured.weighted, margin=settings.margin)
