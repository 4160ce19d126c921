"""m4-balance annotate."""

from commands.console import Shown, record_table
from pipelines.settings import AnnotateSettings
from pipelines.stages import annotate


def command(settings: AnnotateSettings, shown: Shown = Shown()) -> None:
    """Mark who and what is in each image-text pair, one table per shard."""
    with shown.progress("annotate") as progress:
        record = annotate(settings, progress=progress)
    shown.result(record.model_dump(mode="json"), record_table(record))
