"""run.json: every row is accounted for, and foreign content is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.beam import BeamSettings
from pipelines.record import Tally, digest_of, read_run, shard_inputs
from pipelines.shards import ShardRef
from pipelines.tables import Commit


def commit(shard: str, rows: int, **failures: int) -> Commit:
    return Commit(
        shard=shard,
        size=1,
        modified=0.0,
        settings="",
        rows=rows,
        failures=failures,
        examples={reason: f"first {reason}" for reason in failures},
    )


def tally(run: Path, name: str = "stage") -> Tally:
    return Tally(name, str(run), BeamSettings(), "inputs")


def test_a_run_without_a_record_is_empty(tmp_path: Path) -> None:
    assert read_run(str(tmp_path)) == {}


def test_a_record_is_read_back_and_stages_stand_side_by_side(tmp_path: Path) -> None:
    first = tally(tmp_path, "first")
    first.add(commit("a.tar", 10), kept=7)
    second = tally(tmp_path, "second")
    records = {"first": first.finish(), "second": second.finish()}
    assert read_run(str(tmp_path)) == records
    again = tally(tmp_path, "first")
    again.add(commit("b.tar", 5), kept=5)
    assert again.finish() == read_run(str(tmp_path))["first"]
    assert read_run(str(tmp_path))["second"] == records["second"]
    assert list(read_run(str(tmp_path))) == ["first", "second"]


def test_a_record_says_what_ran_on_what(tmp_path: Path) -> None:
    record = tally(tmp_path).finish()
    assert record.settings == {"runner": "FnApiRunner", "processes": 1, "options": []}
    assert record.inputs == "inputs"
    assert set(record.versions) == {"m4-balance", "apache-beam", "pyarrow", "polars"}


shards = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.floats(0, 1),
        st.dictionaries(st.sampled_from(["no image", "no caption"]), st.integers(1, 9)),
    ),
    max_size=6,
)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shards=shards)
def test_every_row_is_kept_dropped_or_failed(
    tmp_path: Path, shards: list[tuple[int, float, dict[str, int]]]
) -> None:
    counted = tally(tmp_path)
    for i, (rows, share, failures) in enumerate(shards):
        counted.add(commit(f"{i}.tar", rows, **failures), kept=round(share * rows))
    record = counted.finish(1.0)
    assert record.rows_in == record.kept + record.dropped + record.failed
    assert record.rows_in == sum(rows + sum(bad.values()) for rows, _, bad in shards)
    assert record.kept == sum(round(share * rows) for rows, share, _ in shards)
    assert record.failed == sum(record.failures.values())
    assert record.examples.keys() == record.failures.keys()
    assert read_run(str(tmp_path))["stage"] == record


def test_the_limit_is_a_share_of_all_samples(tmp_path: Path) -> None:
    counted = tally(tmp_path)
    counted.add(commit("a.tar", 97, **{"no image": 2}), kept=97)
    counted.add(commit("b.tar", 0 + 1, **{"no image": 1, "no caption": 1}), kept=1)
    assert counted.finish(4 / 102).failed == 4
    with pytest.raises(InputError) as error:
        counted.finish(0.039)
    assert str(error.value) == (
        "4 of 102 samples were set aside: 3 x no image (a.tar: first no image); 1 x no caption "
        "(b.tar: first no caption); repair them, or raise max_failures (now 0.039)"
    )


def test_the_limit_is_a_share_of_all_shards_too(tmp_path: Path) -> None:
    counted = tally(tmp_path)
    counted.add(commit("a.tar", 10_000), kept=10_000)
    empty = commit("b.tar", 0, **{"not a tar": 1}).model_copy(update={"damaged": True})
    counted.add(empty, kept=0)
    with pytest.raises(InputError, match=r"1 of 2 shards are damaged or empty.*b\.tar"):
        counted.finish(0.01)
    assert read_run(str(tmp_path))["stage"].failed == 1  # written before the complaint
    assert counted.finish(0.5).kept == 10_000


def test_rows_without_shards_are_kept(tmp_path: Path) -> None:
    counted = tally(tmp_path)
    counted.add_rows(12)
    record = counted.finish()
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (12, 12, 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b'{"annotate": 3}',
        b'{"annotate": {"stage": "annotate"}}',
        b'{"name": "somebody else\'s run.json"}',
    ],
)
def test_foreign_content_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json: not a run record; delete it"):
        read_run(str(tmp_path))
    with pytest.raises(InputError, match=r"run\.json: not a run record"):
        tally(tmp_path).finish()
    assert (tmp_path / "run.json").read_bytes() == content


def test_an_unknown_entry_of_a_stage_is_refused(tmp_path: Path) -> None:
    tally(tmp_path).finish()
    content = json.loads((tmp_path / "run.json").read_text())
    content["stage"]["mood"] = "good"
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not a run record"):
        read_run(str(tmp_path))


def test_a_remote_run_has_a_record(tmp_path: Path, shelf: Callable[[Path], str]) -> None:
    record = Tally("stage", shelf(tmp_path), BeamSettings(), "inputs").finish()
    assert read_run(shelf(tmp_path)) == read_run(str(tmp_path)) == {"stage": record}


def test_a_digest_keeps_parts_apart() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("a", "b") != digest_of("b", "a")
    assert digest_of() != digest_of("")
    assert digest_of("a") == digest_of("a")


@pytest.mark.parametrize("change", [{"path": "b.tar"}, {"size": 2}, {"modified": 1.5}])
def test_inputs_change_with_any_shard(change: dict[str, object]) -> None:
    given = {"path": "a.tar", "size": 1, "modified": 1.0}
    before = [ShardRef("0.tar", 1, 1.0), ShardRef(**given)]  # type: ignore[arg-type]
    after = [before[0], ShardRef(**{**given, **change})]  # type: ignore[arg-type]
    assert shard_inputs(before) != shard_inputs(after)
    assert shard_inputs(before) == shard_inputs(list(before))
