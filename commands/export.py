"""m4-balance export."""

import shlex

from commands.console import Shown, messages, table_of
from pipelines.exports.drawn import Exported
from pipelines.exports.exporting import ExportSettings, export


def command(settings: ExportSettings, shown: Shown = Shown()) -> None:
    """Hand a manifest on: to DataComp's tools, open_clip, webdataset, datasets or MosaicML."""
    with shown.progress("export") as progress:
        exported = export(settings, progress=progress)
    for note in exported.notes:
        messages.print(f"note: {note}", highlight=False, soft_wrap=True)
    if not exported.text:
        rows = [(name, f"{count:,}") for name, count in exported.counts.items()]
        table = table_of(f"Exported to {settings.output}", ("", "count"), rows)
        shown.result(exported.model_dump(mode="json"), table)
    elif shown.json:
        shown.result(list(exported.text))
    else:
        print(_pasted(exported))


def _pasted(exported: Exported) -> str:
    """Arguments as one line of a shell; Python as it is."""
    if exported.format == "open-clip":
        return shlex.join(exported.text)
    return "\n".join(exported.text)
