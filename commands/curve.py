"""m4-balance curve."""

import shlex
from collections.abc import Sequence

from rich.table import Table

from commands.console import Shown, console, table_of
from m4.points import Curve, CurvePoint, Outcome
from pipelines import storage
from pipelines.settings import CurveSettings
from pipelines.stages import curve

COLUMNS = ("rate", "cap", "eps x", "RB", "AB", "ESS/N", "/kept", "deff", "max", "top")
LEGEND = (
    "eps x: tolerances over the catalogue's. RB, AB: representation and association bias. "
    "ESS/N: effective sample size over all examples, and over those kept. deff: N/ESS. "
    "max: largest weight. top: share of weight on the heaviest 1 % of examples."
)


def command(settings: CurveSettings, shown: Shown = Shown()) -> None:
    """Show what balancing costs: bias against effective sample size; draw it as curve.svg."""
    with shown.progress("curve") as progress:
        found = curve(settings, progress=progress)
    chart = _draw(found, settings.run)
    passed = None if found.chosen is None else solve_options(settings, found.chosen)
    content = {**found.model_dump(mode="json"), "chart": chart, "solve": passed}
    tables = curve_tables(found) + ([] if found.chosen is None else [_dearest(found.chosen)])
    shown.result(content, *tables)
    if shown.json:
        return
    lines = [f"chart: {chart}"]
    if passed is not None:
        given = " ".join(f"--{name.replace('_', '-')} {value!r}" for name, value in passed.items())
        paths = f"--run {shlex.quote(settings.run)} --catalogue {shlex.quote(settings.catalogue)}"
        lines.append(f"to solve at the chosen point: m4-balance solve {paths} {given}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def solve_options(settings: CurveSettings, chosen: CurvePoint) -> dict[str, float]:
    """The settings of `solve` that give the chosen point."""
    setting = chosen.setting
    given = {"eta": setting.eta, "cap": setting.cap, "tolerance_factor": setting.factor}
    return given if settings.penalty is None else {**given, "penalty": settings.penalty}


def curve_tables(found: Curve) -> list[Table]:
    """A row per solved point, the chosen one marked; then the lines that cannot be met."""
    chosen = found.chosen
    points = {p.setting: p for p in (*found.points, *([chosen] if chosen else []))}.values()
    ordered = sorted(points, key=lambda p: (p.setting.cap, p.setting.eta, p.setting.factor))
    solved = [(p, p.outcome) for p in ordered if p.outcome is not None]
    before = found.before
    biases = (f"{before.representation_bias:.4f}", f"{before.association_bias:.4f}")
    rows: list[tuple[str, ...]] = [("as is", "", "", *biases, "1.000", "", "1.00", "", "")]
    rows += [_row(point, outcome, chosen=point == chosen) for point, outcome in solved]
    table = table_of(f"What balancing costs, {found.examples:,.0f} examples", COLUMNS, rows)
    table.caption, table.caption_justify = LEGEND, "left"
    for row, (point, _) in zip(table.rows[1:], solved, strict=True):
        row.style = "bold green" if point == chosen else ""
    missing = [point for point in ordered if point.outcome is None]
    return [table, _missing(missing)] if missing else [table]


def _row(point: CurvePoint, outcome: Outcome, *, chosen: bool) -> tuple[str, ...]:
    setting = point.setting
    return (
        f"> {setting.eta:g}" if chosen else f"{setting.eta:g}",
        f"{setting.cap:g}",
        f"{setting.factor:.4g}",
        f"{outcome.representation_bias:.4f}",
        f"{outcome.association_bias:.4f}",
        f"{outcome.effective_share:.3f}",
        f"{outcome.effective_per_kept:.3f}",
        f"{outcome.design_effect:.2f}",
        f"{outcome.largest_weight:.2f}",
        f"{outcome.top_share:.1%}",
    )


def _missing(points: Sequence[CurvePoint]) -> Table:
    lines: dict[tuple[float, float, str], list[CurvePoint]] = {}
    for point in points:
        lines.setdefault((point.setting.eta, point.setting.cap, point.status), []).append(point)
    rows = []
    for (eta, cap, status), line in lines.items():
        rates = [f"{p.largest_rate:.3f}" for p in line if p.largest_rate is not None]
        factors = ", ".join(f"{point.setting.factor:.4g}" for point in line)
        rows.append((f"{eta:g}", f"{cap:g}", factors, status, ", ".join(rates) or "not computed"))
    columns = ("rate", "cap", "eps x", "", "largest feasible rates")
    return table_of("Tolerances that cannot be met", columns, rows)


def _dearest(chosen: CurvePoint) -> Table:
    """What the chosen point's tolerances cost most."""
    prices = {} if chosen.outcome is None else chosen.outcome.dearest
    rows = [(name, f"{price:,.1f}") for name, price in prices.items()]
    return table_of("Dearest tolerances", ("constraint", "effective examples per .01"), rows)


def _draw(found: Curve, run: str) -> str:
    from reporting.curves import cost_chart  # over half a second to import

    path = storage.join(run, "curve.svg")
    storage.write_bytes(path, cost_chart(found).encode())
    return path
