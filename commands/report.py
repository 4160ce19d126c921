"""m4-balance report."""

from commands.console import Shown, console
from reporting.page import ReportSettings, report


def command(settings: ReportSettings, shown: Shown = Shown()) -> None:
    """Write the HTML report of a run directory."""
    path = report(settings)
    if shown.json:
        shown.result({"report": str(path)})
    else:
        console.print(f"report: {path}")
