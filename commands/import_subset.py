"""m4-balance import-subset."""

from commands.console import Shown, record_table, table_of
from pipelines.subsets import ImportSubsetSettings, import_subset


def command(settings: ImportSubsetSettings, shown: Shown = Shown()) -> None:
    """Make a manifest of the samples that a DataComp subset names, from the tars that hold them."""
    with shown.progress("import-subset") as progress:
        imported = import_subset(settings, progress=progress)
    tables = [record_table(imported.record)]
    if imported.uids is not None:
        rows = [
            ("uids of the subset", f"{imported.uids:,}"),
            ("not found in the shards", f"{imported.missing:,}"),
            ("samples that share their uid", f"{imported.shared:,}"),
            ("copies", f"{imported.copies:,}"),
        ]
        tables.append(table_of(f"{settings.subset}", ("", "count"), rows))
    shown.result(imported.model_dump(mode="json"), *tables)
