"""The report: one file that opens in a browser without a script error or a network load."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m4.errors import InputError
from pipelines.balance import ManifestBalance
from pipelines.settings import ApplySettings
from pipelines.stages import apply
from reporting.charts import FEWEST, informative_values
from reporting.contents import read_contents
from reporting.page import LARGEST, ReportSettings, report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


@pytest.fixture(scope="module")
def page(demo_run: Path) -> str:
    return (demo_run / "report.html").read_text()


@dataclass(frozen=True)
class Opened:
    """What a browser made of a page: its text, script errors, and what the page itself loaded."""

    dom: str
    script_errors: list[str]
    loaded: set[str]


def open_in_browser(page: Path, folder: Path) -> Opened:
    net_log = folder / "net.json"
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={net_log}"]
    done = subprocess.run(
        [str(BROWSER), *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # The browser's own requests (updates, time) have no origin; those of a page have one.
    requests = [event.get("params", {}) for event in json.loads(net_log.read_text())["events"]]
    return Opened(
        done.stdout,
        [line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        {
            request["url"]
            for request in requests
            if request.get("initiator", "not an origin") != "not an origin" and "url" in request
        },
    )


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_it_opens_in_a_browser(demo_run: Path, tmp_path: Path) -> None:
    opened = open_in_browser(demo_run / "report.html", tmp_path)
    assert "How this was made" in opened.dom and "</svg>" in opened.dom
    assert not opened.script_errors
    assert not {url for url in opened.loaded if not url.startswith(("file:", "data:"))}


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_the_browser_would_show_an_error_and_a_load(tmp_path: Path) -> None:
    """The test above can fail: a page with both is caught."""
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://localhost:9/x.png'><script>nowhere.to_be_found()</script>")
    opened = open_in_browser(page, tmp_path)
    assert any("nowhere" in line for line in opened.script_errors)
    assert "http://localhost:9/x.png" in opened.loaded


def test_it_is_small_and_stands_alone(page: str) -> None:
    assert len(page.encode()) < LARGEST
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "url(http" not in page and "@import" not in page


def test_it_says_what_was_found(page: str, demo_run: Path) -> None:
    contents = read_contents(demo_run)
    assert "Every balanced cell is inside its tolerance" in page
    assert f"{contents.data.before.association_bias:.3f}" in page
    assert page.count("<svg") >= 6
    for label in contents.catalogue.labels:
        assert f"gender.woman &amp; {label}" in page
    assert "beyond the spread of seeds" in page or "within the spread of seeds" in page


def test_pictures_only_where_they_are_asked_for(demo_run: Path) -> None:
    settings = ReportSettings(run=str(demo_run))
    assert "data:image/jpeg" not in report(settings).read_text()
    shown = report(settings.model_copy(update={"pictures": True})).read_text()
    assert shown.count("data:image/jpeg") == 24


def test_small_cells_are_not_shown(demo_run: Path) -> None:
    contents = read_contents(demo_run)
    cells = contents.data.before.association
    small = cells.filter(cells["examples"] < FEWEST)
    page = report(ReportSettings(run=str(demo_run))).read_text()
    table = page.split("<h2>Every cell</h2>")[1].split("</table>")[0]
    for value, label in small.select("value", "label").iter_rows():
        assert f"{value} &amp; {label}<" not in table


def test_captions_cannot_inject_markup(demo_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo_run, run, ignore=shutil.ignore_patterns("checkpoints", "*shards"))
    text = (run / "catalogue.yaml").read_text()
    policy = (run / "policy.json").read_text()
    evil = text.replace("name: people at work", "name: <script>alert(1)</script>")
    old = read_contents(run).catalogue.digest
    (run / "catalogue.yaml").write_text(evil)
    from m4.catalogue import load_catalogue
    from pipelines.counting import write_patterns

    new = load_catalogue(run / "catalogue.yaml").digest
    (run / "policy.json").write_text(policy.replace(old, new))
    import polars as pl

    for name in ("patterns.parquet", "drawn.parquet"):
        write_patterns(str(run / name), pl.read_parquet(run / name), new)
    shutil.rmtree(run / "evaluation")
    page = report(ReportSettings(run=str(run))).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_run_without_models_has_a_report_too(demo_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("catalogue.yaml", "patterns.parquet", "policy.json"):
        shutil.copy(demo_run / name, run)
    page = report(ReportSettings(run=str(run))).read_text()
    assert "The models" not in page and "The data" in page


def planned_and_drawn(page: str) -> str:
    return page.split("<h3>Planned and drawn</h3>")[1].split("<h2>")[0]


def assert_shown(balance: ManifestBalance, part: str) -> None:
    for name, each in balance.stages.items():
        assert f"<td>{name}</td><td>{each.realised.copies:,.0f}</td>" in part
        assert f"<td>{each.bias.association_bias:.3f}</td></tr>" in part


def test_what_was_planned_and_drawn_is_shown_of_every_policys_manifest(
    demo_run: Path, page: str
) -> None:
    balance = read_contents(demo_run).records["apply manifest"].balance
    assert balance is not None
    assert_shown(balance, planned_and_drawn(page))
    assert "after opt-outs" not in page


def test_opt_outs_are_shown_where_there_are_any(demo_run: Path, page: str, tmp_path: Path) -> None:
    assert "Opted out" not in page
    run = tmp_path / "run"
    shutil.copytree(demo_run, run, ignore=shutil.ignore_patterns("checkpoints", "*shards"))
    listed = tmp_path / "asked <us>.txt"
    uids = pq.read_table(next((run / "annotations").glob("*.parquet")))["uid"].to_pylist()
    listed.write_text("\n".join([*uids[:50], "0" * 32]))
    settings = ApplySettings(
        run=str(run),
        catalogue=str(run / "catalogue.yaml"),
        policy=str(run / "policy.json"),
        opt_out_uids=(str(listed),),
    )
    record = apply(settings)
    assert record.opt_outs is not None and record.balance is not None
    shown = report(ReportSettings(run=str(run))).read_text()
    part = shown.split("<h3>Opted out</h3>")[1].split("<h3>")[0]
    assert f"50 samples were opted out, with {record.opt_outs.copies_lost:.2%} of the" in part
    assert "asked &lt;us&gt;.txt</td><td>51 uids</td><td>50</td>" in part
    assert "state no URL" not in part
    assert_shown(record.balance, planned_and_drawn(shown))
    assert "after opt-outs" in planned_and_drawn(shown)
    listed.write_text(uids[0])
    apply(settings)
    shown = report(ReportSettings(run=str(run))).read_text()
    assert "1 samples were opted out; they are never drawn." in shown
    assert "after opt-outs" not in shown


@pytest.mark.parametrize("missing", ["catalogue.yaml", "patterns.parquet", "policy.json"])
def test_what_is_missing_is_named(demo_run: Path, tmp_path: Path, missing: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("catalogue.yaml", "patterns.parquet", "policy.json"):
        if name != missing:
            shutil.copy(demo_run / name, run)
    with pytest.raises(InputError, match=missing):
        report(ReportSettings(run=str(run)))


def test_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run directory"):
        report(ReportSettings(run=str(tmp_path / "none")))


def test_of_a_complementary_pair_one_value_is_charted(demo_run: Path) -> None:
    assert informative_values(read_contents(demo_run).catalogue) == ["gender.woman"]
