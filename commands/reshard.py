"""m4-balance reshard."""

from commands.console import Shown, record_table
from pipelines.resharding import ReshardSettings, reshard


def command(settings: ReshardSettings, shown: Shown = Shown()) -> None:
    """Write the samples of a manifest into new shards, byte for byte, copies far apart."""
    with shown.progress("reshard") as progress:
        record = reshard(settings, progress=progress)
    shown.result(record.model_dump(mode="json"), record_table(record))
