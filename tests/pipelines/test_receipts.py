"""Receipts: they add up, are kept in files, and are written by consumers that are not ours."""

import json
import re
from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.copies import Manifest
from pipelines.receipts import Receipt, ReceiptWriter, Use, UseCounter, read_receipt
from pipelines.shards import Sample, ShardRef, read_samples
from pipelines.tables import Commit, manifest_schema, write_table
from tests.manifest_plans import check, differences, planned_uses, receipt_of, write_weighted_plan

DOCUMENT = Path(__file__).parents[2] / "docs" / "receipts.md"


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_weighted_plan(tmp_path_factory.mktemp("weighted"))


uses = st.lists(
    st.tuples(
        st.builds(
            Use,
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 3),
            st.sampled_from(["x", "y"]),
            st.sampled_from([None, 0.0, 0.5, 1.0]),
        ),
        st.booleans(),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(uses, st.permutations(range(3)))
def test_parts_add_up_in_any_order(drawn: list[tuple[Use, bool, int]], order: list[int]) -> None:
    """An offset has one key in a manifest; here its key is made from it."""
    drawn = [(use._replace(key=f"{use.offset}"), failed, part) for use, failed, part in drawn]
    nothing = Receipt(manifest="m", epoch=0)
    whole = UseCounter(nothing)
    parts = [UseCounter(nothing) for _ in range(3)]
    for use, failed, part in drawn:
        whole.count([use], failed=failed)
        parts[part].count([use], failed=failed)
    receipts = [counter.receipt(finished=number == 1) for number, counter in enumerate(parts)]
    expected = whole.receipt(finished=True)
    first, second, third = (receipts[number] for number in order)
    assert (first + second) + third == first + (second + third) == expected
    assert first + second == second + first
    assert expected + nothing == expected
    assert sum(each.read + each.failed for each in expected.weights) == len(drawn)
    assert list(expected.shards) == sorted(expected.shards)


@given(uses, st.integers(0, 30))
def test_a_counter_goes_on_from_a_receipt(drawn: list[tuple[Use, bool, int]], stop: int) -> None:
    whole = UseCounter(Receipt(manifest="m", epoch=3))
    before = UseCounter(Receipt(manifest="m", epoch=3))
    for number, (use, failed, _) in enumerate(drawn):
        use = use._replace(key=f"{use.offset}")
        whole.count([use], failed=failed)
        if number == stop:  # through a file, as a checkpoint keeps it
            kept = json.loads(json.dumps(before.receipt().model_dump(mode="json")))
            before = UseCounter(Receipt.model_validate(kept))
        before.count([use], failed=failed)
    assert before.receipt() == whole.receipt()


def test_parts_of_different_epochs_do_not_add_up() -> None:
    one = Receipt(manifest="m", epoch=0)
    for other in (
        Receipt(manifest="n", epoch=0),
        Receipt(manifest="m", epoch=1),
        Receipt(manifest="m", epoch=0, redraw_seed=0),
    ):
        with pytest.raises(InputError, match="do not add up"):
            one + other


def test_what_is_written_is_read_back(weighted: str, tmp_path: Path, shelf: Callable) -> None:
    manifest = Manifest(weighted)
    receipt = receipt_of(manifest, planned_uses(manifest)[:5000], finished=True)
    for path in (str(tmp_path / "new" / "a.json"), shelf(tmp_path / "b.json")):
        receipt.write(path)
        assert read_receipt(path) == receipt
    shuffled = receipt_of(manifest, reversed(planned_uses(manifest)[:5000]), finished=True)
    shuffled.write(str(tmp_path / "c.json"))
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "b.json").read_bytes()


SHARD = '{"read": 2, "failed": 0, "first": %s, "last": %s}'
MARK = '{"offset": 0, "key": "0123456789abcdef"}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a receipt"),
        ('{"manifest": "m"}', "epoch"),
        ('{"manifest": "m", "epoch": 0, "uses": 3}', "unknown key `uses`"),
        (
            '{"manifest": "m", "epoch": 0, "shards": {"a": %s}}' % (SHARD % (MARK, MARK)),
            "2 uses read by shard, but 0 by weight",
        ),
        (
            '{"manifest": "m", "epoch": 0, "shards": {"a": %s}}'
            % (SHARD % (MARK, MARK.replace("0123", "key "))),
            "last.key",
        ),
        (
            '{"manifest": "m", "epoch": 0, "weights": [{"weight": 1}, {"weight": 1.0}]}',
            "comes twice",
        ),
    ],
)
def test_a_file_that_is_no_receipt(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + re.escape(says)):
        read_receipt(str(path))


def test_a_receipt_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json: cannot be read: No such file"):
        read_receipt(str(tmp_path / "none.json"))


def test_a_writer_counts_by_key(weighted: str, tmp_path: Path) -> None:
    manifest = Manifest(weighted)
    every = planned_uses(manifest)
    writer = ReceiptWriter(weighted)
    for use in every[:-2]:
        writer.read(use.stem, use.key)
    writer.failed(every[-2].stem, every[-2].key)
    writer.write(str(tmp_path / "a.json"), finished=False)
    assert read_receipt(str(tmp_path / "a.json")) == writer.receipt(finished=False)
    writer.read(every[-1].stem, every[-1].key)
    whole = writer.receipt(finished=True)
    assert check(weighted, whole).agrees and check(weighted, whole).epochs[0].uses.failed == 1
    with pytest.raises(InputError, match="has no shard 77777"):
        writer.read("77777", "key")
    with pytest.raises(InputError, match=r"00000.parquet has no sample 'key'"):
        writer.read("00000", every[0].key if every[0].stem == "00000" else "00000-0000", "key")
    assert writer.receipt(finished=True) == whole


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture
def tars(tmp_path: Path, people: Callable, write_shards: Callable) -> Path:
    """A folder with `shards/` and a manifest of them in `run/manifest/`."""
    for shard in write_shards(tmp_path / "shards", people(60), 3):
        write_manifest_of(shard, tmp_path / "run" / "manifest")
    return tmp_path


def write_manifest_of(shard: ShardRef, folder: Path) -> None:
    samples = [each for each in read_samples(shard) if isinstance(each, Sample)]
    columns = {
        "uid": [sample.uid for sample in samples],
        "key": [sample.key for sample in samples],
        "offset": [sample.span.offset for sample in samples],
        "length": [sample.span.length for sample in samples],
        "copies": [(number + 1) % 3 for number in range(len(samples))],
    }
    table = pa.table(columns, schema=manifest_schema(weights=False))
    commit = Commit(
        shard=shard.path,
        size=shard.size,
        modified=shard.modified,
        settings="test",
        rows=len(samples),
    )
    write_table(str(folder), shard.stem, table, commit)


def test_a_foreign_consumer_writes_the_receipt_of_the_document(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """webdataset reads the tars, as docs/receipts.md shows it."""
    monkeypatch.chdir(tars)
    program = blocks("python")[0]
    exec(compile(program, "docs/receipts.md", "exec"), {})
    read = read_receipt("receipts/epoch-0.json")
    assert check("run/manifest", read).agrees and len(read.shards) == 3
    skipping = program.replace('glob("*.tar")', 'glob("*[01].tar")')
    exec(compile(skipping, "docs/receipts.md", "exec"), {})
    says = differences(check("run/manifest", read_receipt("receipts/epoch-0.json")))
    assert "not read" in says["shard 00002"] and "shard 00001" not in says


def test_the_file_of_the_document_is_a_receipt() -> None:
    (shown,) = blocks("json")
    receipt = Receipt.model_validate_json(shown)
    assert receipt.finished and receipt.weights[0].weight == 0.25


def test_a_receipt_without_our_code_is_understood(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tars)
    exec(compile(blocks("python")[1], "docs/receipts.md", "exec"), {})
    found = check("run/manifest", read_receipt("by-hand.json"))
    assert found.agrees and not found.strangers
    (epoch,) = found.epochs
    assert epoch.share_read == pytest.approx(1 / 3, abs=0.05)
    whole = read_receipt("by-hand.json").model_copy(update={"finished": True})
    assert set(differences(check("run/manifest", whole))) == {
        "all samples",
        "shard 00001",
        "shard 00002",
    }


def test_the_sum_of_many_workers(weighted: str) -> None:
    manifest = Manifest(weighted)
    every = planned_uses(manifest)
    parts = [receipt_of(manifest, every[number::16], finished=True) for number in range(16)]
    assert reduce(add, parts) == receipt_of(manifest, every, finished=True)
    assert not check(weighted, *parts[1:]).agrees
