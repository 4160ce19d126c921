"""m4-balance count."""

from commands.console import Shown, record_table
from pipelines.settings import CountSettings
from pipelines.stages import count


def command(settings: CountSettings, shown: Shown = Shown()) -> None:
    """Count the distinct patterns of the annotations, all that solving needs."""
    with shown.progress("count") as progress:
        record = count(settings, progress=progress)
    shown.result(record.model_dump(mode="json"), record_table(record))
