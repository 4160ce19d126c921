"""m4-balance embed."""

from commands.console import Shown, console, table_of
from pipelines.embed_shards import EmbedSettings, embed


def command(settings: EmbedSettings, shown: Shown = Shown()) -> None:
    """Embed the pictures of shards with a model, for fit-head and for annotator embeddings."""
    with shown.progress("embed") as progress:
        embedded = embed(settings, progress=progress)
    rows = [("embedded", f"{embedded.samples:,}")]
    rows += [(reason, f"{count:,}") for reason, count in embedded.failures.items()]
    title = f"{embedded.model}, {embedded.dimension} numbers each"
    shown.result(embedded.model_dump(), table_of(title, ("", "samples"), rows))
    if not shown.json:
        console.print(f"embeddings: {settings.out}")
