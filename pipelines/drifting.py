"""Drift: whether the policy of some annotations still balances newer ones."""

from pydantic import Field

from m4.catalogue import Model, load_catalogue
from m4.drift import Drift, drift_of
from m4.errors import InputError
from m4.policy import Policy
from pipelines import storage
from pipelines.beam import BeamSettings, Progress
from pipelines.passes import measure_weights
from pipelines.tables import annotated_tables, check_digest
from pipelines.verification import check_multipliers


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
    policy = Policy.load(settings.policy)
    check_digest(settings.policy, policy.catalogue, catalogue.digest)
    check_multipliers(settings.policy, policy)
    annotations = storage.join(settings.run, "annotations")
    stems = tuple(stem for stem, commit in annotated_tables(annotations, catalogue) if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to check a policy on")
    measured = measure_weights(
        policy.problem,
        policy.dual_vector(),
        policy.rate_dual,
        catalogue,
        annotations,
        stems,
        settings.run,
        settings.beam,
    )
    if progress is not None:
        progress(len(stems), len(stems))
    return drift_of(policy, measured.plain, measured.weighted, margin=settings.margin)
