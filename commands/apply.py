"""m4-balance apply."""

from commands.console import Shown, record_table
from pipelines.settings import ApplySettings
from pipelines.stages import apply


def command(settings: ApplySettings, shown: Shown = Shown()) -> None:
    """Draw a manifest: how often each sample is used, from the policy and the annotations."""
    with shown.progress("apply") as progress:
        record = apply(settings, progress=progress)
    shown.result(record.model_dump(mode="json"), record_table(record))
