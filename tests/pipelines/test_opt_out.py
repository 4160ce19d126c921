"""Opt-out lists: what they name, whatever form they come in, and that it is never drawn."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.policy import Policy
from pipelines import opt_out, storage
from pipelines.copies import Manifest
from pipelines.opt_out import OptOutFile, OptOuts, url_key
from pipelines.record import StageRecord, read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count
from pipelines.tables import read_commit, to_patterns
from pipelines.uids import to_pairs, to_uids

UIDS = [hashlib.sha256(f"uid {i}".encode()).hexdigest()[:32] for i in range(6)]
URLS = [f"http://a.org/{i}.jpg?q=é#top" for i in range(6)]


def sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def table(uids: list[str], urls: list[str | None]) -> pa.Table:
    keys = [None if url is None else url_key(url) for url in urls]
    return pa.table({"uid": uids, "url_sha256": pa.array(keys, pa.binary(16))})


def named(opt_outs: OptOuts) -> list[list[int]]:
    """The rows of the six samples that each file names."""
    return [np.flatnonzero(rows).tolist() for rows in opt_outs.match(table(UIDS, [*URLS]))]


def write_parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def write_text(path: Path, lines: list[str]) -> Path:
    path.write_bytes("\n".join(lines).encode())
    return path


# Lists


def test_a_url_is_compared_by_half_its_sha256() -> None:
    digest = "100680ad546ce6a577f42f52df33b4cfdca756859e664b8d7de329b150d09ce9"
    assert sha256("https://example.com") == digest
    assert url_key("https://example.com").hex() == digest[:32]


def test_uids_are_the_same_in_every_form(tmp_path: Path, shelf: Callable[[Path], str]) -> None:
    wanted = [UIDS[4], UIDS[1]]
    np.save(tmp_path / "a.npy", to_pairs(wanted))
    lines = ["# by request", "", f"  {wanted[0].upper()}  ", f"{wanted[1]}\r", wanted[1]]
    paths = [
        tmp_path / "a.npy",
        write_text(tmp_path / "a.txt", lines),
        write_parquet(tmp_path / "a.parquet", uid=wanted, reason=["x", None]),
    ]
    here = OptOuts.of([*map(str, paths)], [])
    there = OptOuts.of([shelf(path) for path in paths], [])
    for opt_outs in (here, there):
        assert [to_uids(keys) for keys in opt_outs.listed()] == [sorted(wanted)] * 3
        assert named(opt_outs) == [[1, 4]] * 3


def test_urls_are_the_same_in_every_form(tmp_path: Path) -> None:
    wanted = [URLS[5], URLS[0]]
    hashes = [sha256(url) for url in wanted]
    paths = [
        write_text(tmp_path / "a.txt", ["# not a#comment", wanted[0], "", hashes[1].upper()]),
        write_parquet(tmp_path / "a.parquet", url=wanted),
        write_parquet(tmp_path / "b.parquet", url_sha256=hashes),
    ]
    assert named(OptOuts.of([], [*map(str, paths)])) == [[0, 5]] * 3


def test_urls_are_compared_exactly(tmp_path: Path) -> None:
    others = [URLS[0] + "/", URLS[0].replace("http", "HTTP"), URLS[0].replace("é", "e\u0301")]
    path = write_text(tmp_path / "a.txt", others)
    assert named(OptOuts.of([], [str(path)])) == [[]]


def test_a_sample_without_a_url_is_named_by_none(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", ["0" * 64, URLS[0]])
    opt_outs = OptOuts.of([], [str(path)])
    assert opt_outs.match(table(UIDS[:2], [None, URLS[0]])).tolist() == [[False, True]]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    held=st.lists(st.integers(0, 30), max_size=20),
    listed=st.lists(st.integers(0, 30), max_size=20),
    by_url=st.booleans(),
)
def test_what_is_named_is_what_is_listed(
    tmp_path: Path, held: list[int], listed: list[int], by_url: bool
) -> None:
    uids = [hashlib.sha256(bytes([i])).hexdigest()[:32] for i in held]
    urls: list[str | None] = [f"s3://b/{i}" for i in held]
    lines = [
        f"s3://b/{i}" if by_url else hashlib.sha256(bytes([i])).hexdigest()[:32] for i in listed
    ]
    path = str(write_text(tmp_path / "a.txt", lines))
    opt_outs = OptOuts.of([], [path]) if by_url else OptOuts.of([path], [])
    assert opt_outs.match(table(uids, urls)).tolist() == [[i in listed for i in held]]


@pytest.mark.parametrize(
    ("kind", "lines", "message"),
    [
        ("uids", ["# a", UIDS[0], "ab"], r"list\.txt, line 3: 'ab' is no uid; a uid has 32"),
        ("uids", [UIDS[0] + "0"], r"line 1: .* is no uid"),
        ("uids", ["http://a.org/x"], r"line 1: 'http://a\.org/x' is no uid"),
        ("urls", ["", "a.org/x.jpg"], r"line 2: 'a\.org/x\.jpg' is neither a URL with :// nor"),
        ("urls", ["0" * 32], r"line 1: '0+' is a hash of 32 digits; only SHA-256"),
        ("urls", ["a" * 40], r"line 1: 'a+' is a hash of 40 digits; only SHA-256"),
        ("urls", ["a" * 63], r"line 1: 'a+' is neither a URL"),
    ],
)
def test_an_entry_that_cannot_be_compared_is_named(
    tmp_path: Path, kind: str, lines: list[str], message: str
) -> None:
    path = str(write_text(tmp_path / "list.txt", lines))
    with pytest.raises(InputError, match=message):
        OptOuts.of(*(([path], []) if kind == "uids" else ([], [path])))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, r"none\.txt: cannot be read: No such file"),
        ("a.txt", b"\xff\xfe", r"a\.txt: neither text in UTF-8 nor"),
        ("a.npy", b"no array", r"a\.npy: cannot be read as \.npy"),
        ("a.parquet", b"no table", r"a\.parquet: cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        OptOuts.of([str(tmp_path / name)], [])


def test_a_parquet_without_the_column_or_with_a_hole_is_named(tmp_path: Path) -> None:
    other = write_parquet(tmp_path / "other.parquet", id=UIDS)
    with pytest.raises(InputError, match=r"other\.parquet: no column uid; name one so"):
        OptOuts.of([str(other)], [])
    with pytest.raises(InputError, match=r"other\.parquet: no column url or url_sha256"):
        OptOuts.of([], [str(other)])
    holes = write_parquet(tmp_path / "holes.parquet", uid=[UIDS[0], None])
    with pytest.raises(InputError, match=r"holes\.parquet, row 1: uid holds None"):
        OptOuts.of([str(holes)], [])


def test_only_the_content_of_lists_counts(tmp_path: Path) -> None:
    one, two = write_text(tmp_path / "1", UIDS[:1]), write_text(tmp_path / "2", UIDS[1:])
    copy = write_text(tmp_path / "copy", UIDS[:1])
    content = OptOuts.of([str(one), str(two)], []).content
    assert OptOuts.of([str(two), str(copy)], []).content == content
    assert OptOuts.of([str(two)], []).content != content
    assert OptOuts.of([], []).content == OptOuts().content == ""


def test_a_process_reads_a_list_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opt_outs = OptOuts.of([str(write_text(tmp_path / "a", UIDS[:1]))], [])
    monkeypatch.setattr(storage, "read_bytes", None)
    assert named(opt_outs) == named(OptOuts(opt_outs.files)) == [[0]]


def test_a_list_that_changes_while_it_is_used_is_refused(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a", UIDS[:1])
    opt_outs = OptOuts.of([str(path)], [])
    write_text(path, UIDS[:2])
    opt_out._read_files.cache_clear()  # as in a worker that was started since
    with pytest.raises(InputError, match="changed while it was used; run apply again"):
        opt_outs.match(table(UIDS, [*URLS]))


# The stage


@pytest.fixture(scope="module")
def linked_once(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue_path: Path,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> Path:
    """The people of the annotated run, but for every fifth with the URL that `url_of` gives."""
    folder = tmp_path_factory.mktemp("linked")
    pairs = [
        [
            (name, with_url(content, i) if name.endswith("json") else content)
            for name, content in pair
        ]
        for i, pair in enumerate(people(240))
    ]
    write_shards(folder / "shards", pairs, 4)
    annotate(
        AnnotateSettings(
            shards=(str(folder / "shards"),),
            catalogue=str(catalogue_path),
            run=str(folder / "run"),
            annotators=("captions", "fields"),
        )
    )
    count(CountSettings(run=str(folder / "run"), catalogue=str(catalogue_path)))
    return folder / "run"


def url_of(i: int) -> str:
    return f"https://pictures.example/{i}.jpg"


def with_url(content: bytes, i: int) -> bytes:
    return content if i % 5 == 0 else json.dumps({**json.loads(content), "url": url_of(i)}).encode()


@pytest.fixture
def linked(linked_once: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(linked_once, tmp_path / "linked"))


@pytest.fixture
def drawn_with(linked: Path, catalogue_path: Path, policy_path: Path) -> ApplySettings:
    return ApplySettings(
        run=str(linked), catalogue=str(catalogue_path), policy=str(policy_path), seed=3
    )


def opting_out(settings: ApplySettings, path: Path, numbers: list[int]) -> ApplySettings:
    """Settings with a list of the URLs of these samples."""
    write_text(path, [url_of(i) for i in numbers])
    return settings.model_copy(update={"opt_out_urls": (str(path),)})


def rows_of(run: Path, name: str = "manifest") -> dict[str, dict[str, Any]]:
    """The rows of a manifest by the last digits of their keys, which are numbers."""
    tables = [pq.read_table(path) for path in sorted((run / name).glob("*.parquet"))]
    return {row["key"]: row for each in tables for row in each.to_pylist()}


def key(i: int) -> str:
    return f"{i:06d}"


def test_what_is_opted_out_is_never_drawn(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    apply(drawn_with.model_copy(update={"weights": True}))
    before = rows_of(linked)
    out = [i for i in range(240) if i % 3 == 1]
    by_url = [i for i in out if i % 5 and i < 150]
    by_uid = [i for i in out if i not in by_url]
    settings = opting_out(drawn_with, tmp_path / "urls", [*by_url, 7000])
    write_text(tmp_path / "uids", [before[key(i)]["uid"] for i in by_uid])
    settings = settings.model_copy(update={"opt_out_uids": (str(tmp_path / "uids"),)})
    record = apply(settings.model_copy(update={"weights": True}))
    after = rows_of(linked)
    assert list(after) == list(before)
    for i in range(240):
        was, row = before[key(i)], after[key(i)]
        assert row["copies"] == (0 if i in out else was["copies"])
        assert (row["weight"] == 0) == (i in out)
        assert {**row, "copies": 0, "weight": 0} == {**was, "copies": 0, "weight": 0}
    assert sum(before[key(i)]["copies"] for i in out) > 20  # or nothing would be shown
    # Nor in any epoch, where the loader draws afresh.
    manifest = Manifest(str(linked / "manifest"), redraw=True)
    gone = {before[key(i)]["uid"] for i in out}
    for epoch in range(20):
        for part in manifest.shards:
            rows = manifest.rows(part, epoch)
            assert not {uid for uid, n in zip(rows.uids, rows.copies, strict=True) if n} & gone
    _check_report(record, by_uid, by_url, out, before)
    commits = [read_commit(str(linked / "manifest"), f"0000{i}") for i in range(4)]
    assert sum(commit.counts["opted_out"] for commit in commits if commit) == len(out)
    assert record.rows_in == 240 == record.kept + record.dropped
    assert record.dropped >= len(out)


def _check_report(
    record: StageRecord,
    by_uid: list[int],
    by_url: list[int],
    out: list[int],
    before: dict[str, dict[str, Any]],
) -> None:
    found = record.opt_outs
    assert found is not None
    assert found.samples == len(out)
    assert found.without_url == 48
    counts = [(each.kind, each.entries, each.matched) for each in found.lists]
    assert counts == [
        ("uids", len(by_uid), len(by_uid)),
        ("urls", len(by_url) + 1, len(by_url)),
    ]
    # Levels are means of weights, so that their share of all is near that of the weights.
    weights = {name: row["weight"] for name, row in before.items()}
    share = sum(weights[key(i)] for i in out) / sum(weights.values())
    assert found.copies_lost == pytest.approx(share, abs=0.01)
    balance = record.balance
    assert balance is not None and balance.after_opt_outs is not None
    planned, left = balance.planned.realised, balance.after_opt_outs.realised
    assert found.copies_lost == pytest.approx(1 - left.copies / planned.copies)
    assert left.max_violation > planned.max_violation + 0.005


def test_a_list_that_names_nothing_is_reported(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    apply(drawn_with)
    before = rows_of(linked)
    record = apply(opting_out(drawn_with, tmp_path / "urls", [5000, 5001]))
    assert record.opt_outs is not None
    assert [(each.entries, each.matched) for each in record.opt_outs.lists] == [(2, 0)]
    assert (record.opt_outs.samples, record.opt_outs.copies_lost) == (0, 0.0)
    assert rows_of(linked) == before


def numbers_in(content: Any) -> list[float]:
    """All numbers of a json."""
    if isinstance(content, dict | list):
        each = content.values() if isinstance(content, dict) else content
        return [number for part in each for number in numbers_in(part)]
    return [content] if isinstance(content, int | float) else []


@pytest.mark.parametrize("how", [{}, {"weights": True}, {"design": "calibrated"}])
def test_no_weight_can_be_told_from_what_is_written_of_one_who_opted_out(
    linked: Path,
    drawn_with: ApplySettings,
    catalogue: Catalogue,
    policy_path: Path,
    tmp_path: Path,
    how: dict[str, Any],
) -> None:
    """Nor where a shard has one sample: markers hold whole numbers, and run.json no difference."""
    marks = pa.concat_tables(
        [pq.read_table(path) for path in sorted((linked / "annotations").glob("*.parquet"))]
    )
    weights = Policy.load(policy_path).weights(to_patterns(marks, catalogue))
    one = next(i for i, weight in enumerate(weights) if 0.1 < weight % 1 < 0.9)
    path = write_text(tmp_path / "uids", [marks["uid"][one].as_py()])
    settings = drawn_with.model_copy(update={"opt_out_uids": (str(path),), **how})
    record = apply(settings)
    for stem in ("00000", "00001", "00002", "00003"):
        commit = read_commit(str(linked / "manifest"), stem)
        assert commit is not None
        assert all(float(number).is_integer() for number in commit.counts.values())
    assert record.balance is not None and record.balance.after_opt_outs is None
    assert record.opt_outs is not None and record.opt_outs.copies_lost is None
    assert (record.opt_outs.samples, record.opt_outs.lists[0].matched) == (1, 1)
    told = np.array(numbers_in(record.model_dump(mode="json", include={"balance", "opt_outs"})))
    differences = told[:, None] - told
    for secret in (weights[one], weights[one] / weights.sum()):
        assert np.abs(np.concatenate([told, differences.ravel()]) - secret).min() > 1e-9


@pytest.mark.parametrize(("out", "told"), [(0, True), (1, False), (19, False), (20, True)])
def test_what_opting_out_costs_is_told_of_twenty_samples_and_more(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path, out: int, told: bool
) -> None:
    numbers = [i for i in range(240) if i % 5][:out]
    record = apply(opting_out(drawn_with, tmp_path / "urls", numbers))
    assert record.balance is not None and record.opt_outs is not None
    assert record.opt_outs.samples == out
    assert (record.balance.after_opt_outs is not None) == told
    assert (record.opt_outs.copies_lost is not None) == told
    assert "quantised" not in record.balance.model_dump(exclude_none=True)


def test_a_list_that_a_manifest_was_drawn_with_is_not_forgotten(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    both = opting_out(drawn_with, tmp_path / "urls", [1, 2, 3])
    uids = str(write_text(tmp_path / "uids", ["0" * 32]))
    both = both.model_copy(update={"opt_out_uids": (uids,)})
    apply(both)
    before, entry = rows_of(linked), (linked / "run.json").read_bytes()
    for forgotten, sentence in (
        ({"opt_out_urls": ()}, r"manifest was drawn without 3 samples that .*urls, which is not"),
        ({"opt_out_uids": ()}, r"manifest was drawn without 0 samples that .*uids, which is not"),
        ({"opt_out_uids": (), "opt_out_urls": (), "policy": None}, "give the list again, or ch"),
        ({"seed": 4, "opt_out_urls": ()}, "or choose another manifest"),
    ):
        with pytest.raises(InputError, match=sentence):
            apply(both.model_copy(update=forgotten))
    assert rows_of(linked) == before and (linked / "run.json").read_bytes() == entry
    # Another manifest may, and so may a list that grew or that was moved.
    apply(drawn_with.model_copy(update={"manifest": "other"}))
    assert any(rows_of(linked, "other")[key(i)]["copies"] for i in (1, 2, 3))
    apply(opting_out(both, tmp_path / "urls", [1, 2, 3, 4]))
    record = apply(opting_out(both, tmp_path / "moved", [1, 2, 3, 4]))
    assert record.opt_outs is not None and record.opt_outs.samples == 4


def test_without_a_policy_what_is_opted_out_is_left_out_too(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    settings = opting_out(drawn_with, tmp_path / "urls", [1, 2, 3])
    record = apply(settings.model_copy(update={"policy": None}))
    assert {name for name, row in rows_of(linked).items() if not row["copies"]} == {
        *map(key, (1, 2, 3))
    }
    assert record.balance is None and record.opt_outs is not None
    assert record.opt_outs.copies_lost == pytest.approx(3 / 240)
    assert (record.kept, record.dropped) == (237, 3)


def test_another_content_draws_anew_and_another_place_does_not(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (linked / "manifest").iterdir()}

    apply(opting_out(drawn_with, tmp_path / "urls", [1, 2]))
    first = times()
    apply(opting_out(drawn_with, tmp_path / "moved", [1, 2]))
    assert times() == first
    apply(opting_out(drawn_with, tmp_path / "moved", [1, 2, 3]))
    assert all(times()[name] != at for name, at in first.items())
    assert rows_of(linked)[key(3)]["copies"] == 0


@pytest.mark.slow
def test_two_processes_leave_out_the_same(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    from pipelines.beam import BeamSettings

    settings = opting_out(drawn_with, tmp_path / "urls", list(range(60)))
    one = apply(settings)
    both = {"manifest": "two", "beam": BeamSettings(processes=2)}
    two = apply(settings.model_copy(update=both))
    assert rows_of(linked, "two") == rows_of(linked)
    assert two.opt_outs == one.opt_outs and two.balance == one.balance


def test_a_calibrated_sample_makes_up_for_what_is_opted_out(
    linked: Path, drawn_with: ApplySettings, tmp_path: Path
) -> None:
    """Planned: a fifth of the women opted out, and at most half of Poisson's violation is left."""
    women = [
        int(row["key"])
        for path in sorted((linked / "annotations").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
        if row["gender.woman"] == 1.0
    ]
    settings = opting_out(drawn_with, tmp_path / "urls", women[::5])
    poisson = apply(settings).balance
    calibrated = apply(settings.model_copy(update={"design": "calibrated"})).balance
    assert poisson is not None and calibrated is not None
    rows = rows_of(linked)
    assert not any(rows[key(i)]["copies"] for i in women[::5] if i % 5)
    assert calibrated.after_opt_outs == poisson.after_opt_outs
    more, less = poisson.drawn.realised, calibrated.drawn.realised
    assert less.total_violation < more.total_violation / 2
    assert more.total_violation > 0.01
    # What was calibrated is what was drawn, and other lists are calibrated for anew.
    made = (linked / "manifest-thresholds.json").read_bytes()
    other = opting_out(drawn_with, tmp_path / "urls", women[1::5])
    apply(other.model_copy(update={"design": "calibrated"}))
    assert (linked / "manifest-thresholds.json").read_bytes() != made


def test_lists_of_urls_without_any_url_in_the_run_are_refused(
    run: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    settings = ApplySettings(run=str(run), catalogue=str(catalogue_path))
    with pytest.raises(InputError, match=r"annotations: no sample's metadata states a url"):
        apply(opting_out(settings, tmp_path / "urls", [1]))
    assert not (run / "manifest").exists()


def test_annotations_of_an_earlier_version_are_refused_where_urls_are_needed(
    run: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    for stem in ("00000", "00001"):
        marker = run / "annotations" / f"{stem}.json"
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "counts": {}}))
        path = marker.with_suffix(".parquet")
        pq.write_table(pq.read_table(path).drop_columns("url_sha256"), path)
    settings = ApplySettings(run=str(run), catalogue=str(catalogue_path))
    with pytest.raises(InputError, match=r"00000\.parquet: no column url_sha256.*annotate again"):
        apply(opting_out(settings, tmp_path / "urls", [1]))
    path = str(write_text(tmp_path / "uids", ["0" * 32]))
    record = apply(settings.model_copy(update={"opt_out_uids": (path,)}))  # needs no URL
    assert record.kept == 240
    assert read_run(str(run))["apply manifest"] == record


def test_a_file_is_counted_by_its_content() -> None:
    one, two = OptOutFile("a", "uids", "0" * 64), OptOutFile("b", "uids", "0" * 64)
    assert one.count_name == two.count_name == "opted_out by 0000000000000000"
