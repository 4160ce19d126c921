"""What is wrong with shards. What is claimed of webdataset is seen by running it."""

import gzip
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset.handlers import ignore_and_continue, reraise_exception
from webdataset.tariterators import base_plus_ext, tarfile_samples

from m4.errors import InputError
from pipelines import mending, shards, tars
from pipelines.beam import BeamSettings
from pipelines.groups import split_member
from pipelines.lint import Fault, lint_shard
from pipelines.mending import KINDS
from pipelines.shards import Failure, Sample, ShardRef, find_shards, read_samples
from pipelines.tables import read_table
from pipelines.validation import Finding, ValidateSettings, Validation, validate

Member = tuple[str, bytes]
MakeTar = Callable[..., bytes]
MakePair = Callable[..., list[Member]]
People = Callable[[int], list[list[Member]]]
Write = Callable[[Path, bytes], ShardRef]
WriteShards = Callable[..., list[ShardRef]]
Lint = Callable[..., dict[str, int]]
Yielded = list[tuple[str, str]]
END = bytes(1024)
GNU_TAR = shutil.which("tar")

needs_gnu_tar = pytest.mark.skipif(
    GNU_TAR is None
    or b"GNU tar" not in subprocess.run([GNU_TAR, "--version"], capture_output=True).stdout,
    reason="no GNU tar",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard.tar"


@pytest.fixture
def lint(path: Path, tar_bytes: MakeTar, write: Write) -> Lint:
    """Writes a shard of bytes or members, and counts what is wrong with it by kind."""

    def of(content: bytes | list[Member]) -> dict[str, int]:
        whole = content if isinstance(content, bytes) else tar_bytes(content)
        return counts(write(path, whole))

    return of


def counts(shard: ShardRef) -> dict[str, int]:
    faults, _ = lint_shard(shard)
    kinds = [fault.kind for fault in faults]
    assert set(kinds) <= KINDS.keys()
    return {kind: kinds.count(kind) for kind in kinds}


def by_webdataset(path: Path, *, ignoring: bool = False) -> Yielded:
    """Keys and extensions that webdataset yields. Raises what it raises, unless it is to ignore."""
    handler = ignore_and_continue if ignoring else reraise_exception
    return [
        (sample["__key__"], " ".join(sorted(name for name in sample if not name.startswith("__"))))
        for sample in tarfile_samples([{"url": str(path)}], handler=handler)
    ]


def by_annotate(path: Path) -> list[str]:
    """Keys of the samples that annotate uses."""
    (shard,) = find_shards(str(path))
    return [each.key for each in read_samples(shard) if isinstance(each, Sample)]


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> bytes:
    """The bytes of one entry of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "a.jpg" if kind in (b"1", b"2") else ""
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    stream = content + bytes(-len(content) % 512) if kind == tarfile.REGTYPE else b""
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape") + stream


def sample(key: str) -> bytes:
    return entry(f"{key}.jpg") + entry(f"{key}.txt")


WHOLE = [("a", "jpg txt"), ("b", "jpg txt")]


# Nothing is wrong


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]
)
def test_a_clean_shard_has_no_fault(
    path: Path, tar_bytes: MakeTar, people: People, write: Write, tar_format: int
) -> None:
    members = [member for each in people(40) for member in each]
    shard = write(path, tar_bytes(members, tar_format))
    assert lint_shard(shard) == ([], 40)
    assert len(by_webdataset(path)) == 40


def test_extensions_in_capitals_are_no_fault(lint: Lint, path: Path) -> None:
    assert lint([("a.JPG", b"x"), ("a.Txt", b"x"), ("b.jpg", b"x"), ("b.txt", b"x")]) == {}
    assert by_webdataset(path) == WHOLE


def test_a_harmless_global_header_is_no_fault(lint: Lint, path: Path) -> None:
    comment = tarfile.TarInfo("g").create_pax_global_header({"comment": "of git archive"})
    assert lint(comment + sample("a") + comment + sample("b") + END) == {}
    assert by_webdataset(path) == WHOLE


# How samples lie in the tar


def test_interleaved_members(lint: Lint, path: Path) -> None:
    members = [("a.jpg", b"x"), ("b.jpg", b"x"), ("a.txt", b"x"), ("b.txt", b"x")]
    assert lint([*members, ("c.jpg", b"x"), ("c.txt", b"x")]) == {"interleaved members": 2}
    halves = [("a", "jpg"), ("b", "jpg"), ("a", "txt"), ("b", "txt")]
    assert by_webdataset(path) == [*halves, ("c", "jpg txt")]
    assert by_annotate(path) == ["c"]
    assert lint_shard(find_shards(str(path))[0])[0][0] == Fault("interleaved members", "a", 2048)


def test_half_samples_that_are_no_pieces_are_told_beside_those_that_are(lint: Lint) -> None:
    members = [
        ("a.jpg", b"x"),
        ("b.jpg", b"x"),
        ("a.txt", b"x"),
        ("c.txt", b"x"),
        ("d.json", b"{}"),
    ]
    assert lint(members) == {"interleaved members": 1, "no caption": 1, "no image": 2}


def test_repeated_keys_apart(lint: Lint, path: Path) -> None:
    assert lint(sample("a") + sample("b") + sample("a") + END) == {"repeated key": 1}
    assert by_webdataset(path) == [*WHOLE, ("a", "jpg txt")]
    assert by_annotate(path) == ["a", "b"]


def test_repeated_keys_side_by_side(lint: Lint, path: Path) -> None:
    assert lint(sample("a") + sample("a") + sample("b") + END) == {"repeated key": 1}
    with pytest.raises(ValueError, match="duplicate file name"):
        by_webdataset(path)
    assert by_annotate(path) == ["a", "b"]


def test_an_extension_in_two_spellings_is_a_repeated_key(lint: Lint, path: Path) -> None:
    assert lint([("a.jpg", b"x"), ("a.JPG", b"x"), ("a.txt", b"x")]) == {"repeated key": 1}
    with pytest.raises(ValueError, match="duplicate file name"):
        by_webdataset(path)


def test_dotted_keys(lint: Lint, path: Path) -> None:
    assert lint(sample("1.5") + sample("1.6") + sample("x.y/c") + END) == {"dotted key": 4}
    assert by_webdataset(path) == [("1", "5.jpg 5.txt 6.jpg 6.txt"), ("x.y/c", "jpg txt")]
    assert by_annotate(path) == ["1.5", "1.6", "x.y/c"]


def test_a_second_extension_is_a_dotted_key(lint: Lint, path: Path) -> None:
    members = [("a.jpg", b"x"), ("a.json", b"{}"), ("a.seg.png", b"x"), ("a.txt", b"x")]
    assert lint(members).keys() == {"dotted key", "interleaved members", "no caption"}
    assert by_webdataset(path) == [("a", "jpg json seg.png txt")]
    assert by_annotate(path) == []


names = st.lists(st.text("ab._/", min_size=1, max_size=6), min_size=1, max_size=3).map("".join)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.differing_executors])
@given(name=names.map(lambda name: f"k{name}k.jpg"))
def test_a_name_without_a_dotted_key_is_cut_as_webdataset_cuts_it(name: str) -> None:
    (key, extension), theirs = split_member(name), base_plus_ext(name)
    last = key.rpartition("/")[2]
    if last:
        assert ((key, extension) == theirs) != ("." in last)


def test_names_that_webdataset_hides(lint: Lint, path: Path) -> None:
    hidden = sample("__x__/a") + sample("b") + entry("__meta__", b"hello") + END
    assert lint(hidden) == {"name that webdataset hides": 3, "no image": 1}
    assert by_webdataset(path) == [("b", "jpg txt")]
    assert lint(sample("__a") + sample("b__") + sample("c/__d__/e") + END) == {}
    assert [key for key, _ in by_webdataset(path)] == ["__a", "b__", "c/__d__/e"]


def test_several_pictures(lint: Lint, path: Path) -> None:
    members = [("a.png", b"x"), ("a.jpg", b"y"), ("a.txt", b"x"), ("b.jpg", b"x"), ("b.txt", b"x")]
    assert lint(members) == {"several pictures": 1}
    assert by_webdataset(path) == [("a", "jpg png txt"), ("b", "jpg txt")]
    (first, _) = read_samples(find_shards(str(path))[0], images=True)
    assert isinstance(first, Sample) and first.image == b"y"


# What is no file


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links(lint: Lint, path: Path, kind: bytes) -> None:
    linked = entry("b.jpg", kind=kind) + entry("b.txt")
    assert lint(sample("a") + linked + END) == {"link": 1, "no image": 1}
    assert by_webdataset(path) == [("a", "jpg txt"), ("b", "txt")]


def test_folders_and_devices_are_warnings(lint: Lint, path: Path) -> None:
    folder, queue = entry("f/", kind=tarfile.DIRTYPE), entry("q", kind=tarfile.FIFOTYPE)
    device = entry("d", kind=tarfile.CHRTYPE)
    found = lint(folder + sample("a") + queue + device + sample("b") + END)
    assert found == {"folder": 1, "neither a file nor a folder": 2}
    assert {KINDS[kind].severity for kind in found} == {"warning"}
    assert by_webdataset(path) == WHOLE


# What cannot be copied or kept


@needs_gnu_tar
@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=posix"]])
def test_sparse_members(tmp_path: Path, options: list[str]) -> None:
    with open(tmp_path / "a.jpg", "wb") as stream:
        stream.seek(200_000)
        stream.write(b"piece")
    (tmp_path / "a.txt").write_text("x")
    subprocess.run(
        ["tar", "-S", *options, "-cf", "shard.tar", "a.jpg", "a.txt"], cwd=tmp_path, check=True
    )
    (shard,) = find_shards(str(tmp_path))
    assert counts(shard) == {"sparse member": 1}
    (found,) = tarfile_samples([{"url": shard.path}])
    assert found["jpg"] == bytes(200_000) + b"piece"
    assert by_annotate(tmp_path / "shard.tar") == []


def test_members_that_depend_on_a_global_header(lint: Lint, path: Path) -> None:
    size = tarfile.TarInfo("g").create_pax_global_header({"size": "1"})
    content = sample("a") + size + sample("b")
    assert lint(content + END) == {"name or size from a PAX global header": 1}
    assert by_webdataset(path) == WHOLE
    assert by_annotate(path) == ["a"]


def test_a_key_that_is_not_utf_8(lint: Lint, path: Path) -> None:
    assert lint(sample("a") + sample("k\udcff") + END) == {"key is not UTF-8": 1}
    (_, (key, _)) = by_webdataset(path)
    with pytest.raises(UnicodeEncodeError):
        key.encode()
    faults, usable = lint_shard(find_shards(str(path))[0])
    assert (faults[0].name, usable) == ("k\\udcff", 1)


# What samples hold


def contents() -> list[Any]:
    image, text = ("b.jpg", b"x"), ("b.txt", b"x")
    cases: list[tuple[str, list[Member]]] = [
        ("no image", [text]),
        ("no image", [("b.mp3", b"x"), text]),
        ("no caption", [image]),
        ("no caption", [image, ("b.json", b'{"caption": null}')]),
        ("empty image", [("b.jpg", b""), text]),
        ("empty caption", [image, ("b.txt", b" \n")]),
        ("caption is not UTF-8", [image, ("b.txt", b"caf\xe9")]),
        ("caption is longer than 10,000 characters", [image, ("b.txt", b"x" * 10_001)]),
        ("txt is larger than 1 MB", [image, ("b.txt", b"x" * 1_000_001)]),
        ("json is larger than 1 MB", [image, text, ("b.json", b" " * 1_000_001)]),
        ("json cannot be parsed", [image, text, ("b.json", b"")]),
        ("json cannot be parsed", [image, text, ("b.json", b"{")]),
        ("json is not an object", [image, text, ("b.json", b"[]")]),
        (
            "uid is not 32 lower-case hexadecimal digits",
            [image, text, ("b.json", b'{"uid": "0123"}')],
        ),
    ]
    return [pytest.param(*case, id=f"{case[0]} {k}") for k, case in enumerate(cases)]


@pytest.mark.parametrize(("kind", "members"), contents())
def test_samples_that_annotate_sets_aside(
    lint: Lint, path: Path, kind: str, members: list[Member]
) -> None:
    good = [("a.jpg", b"x"), ("a.txt", b"x")]
    assert lint([*good, *members, ("c.jpg", b"x"), ("c.txt", b"x")]) == {kind: 1}
    assert KINDS[kind].severity == "error"
    extensions = " ".join(sorted(name.removeprefix("b.") for name, _ in members))
    assert by_webdataset(path)[1] == ("b", extensions)
    assert by_annotate(path) == ["a", "c"]


def test_a_caption_in_the_json_will_do(lint: Lint, path: Path) -> None:
    assert lint([("a.jpg", b"x"), ("a.json", b'{"caption": "x"}')]) == {}
    assert by_annotate(path) == ["a"]


def test_the_same_uid_twice(lint: Lint, pair: MakePair) -> None:
    same = {"uid": "0" * 32}
    members = [*pair("a", "x", same), *pair("b", "x", {"uid": "1" * 32}), *pair("c", "x", same)]
    assert lint(members) == {"uid of another sample": 1}
    assert KINDS["uid of another sample"].severity == "warning"


# Damage


def test_a_tar_that_was_cut(lint: Lint, path: Path) -> None:
    whole = sample("a") + entry("b.jpg", b"x" * 3000)
    for cut, kind in ((len(whole) - 1000, tarfile.ReadError), (2048 + 300, None)):
        found = lint(whole[:cut])
        assert found["truncated shard"] == 1 and by_annotate(path) == []
        if kind is None:  # webdataset says nothing
            assert by_webdataset(path) == [("a", "jpg txt")]
            continue
        with pytest.raises(kind):
            by_webdataset(path)
        assert by_webdataset(path, ignoring=True) == [("a", "jpg txt")]


def test_a_tar_without_an_end_mark(lint: Lint, path: Path) -> None:
    assert lint(sample("a") + sample("b")) == {"no end mark": 1}
    assert KINDS["no end mark"].severity == "warning"
    assert by_webdataset(path) == WHOLE
    assert by_annotate(path) == ["a", "b"]


@pytest.mark.parametrize("how", ["flipped", "lost"])
def test_damage_ends_a_shard_for_webdataset_without_an_error(
    lint: Lint, path: Path, how: str
) -> None:
    whole = bytearray(b"".join(map(sample, "abcdef")) + END)
    kind, at = "damaged shard: bad header", 2 * 2048 + 5
    if how == "flipped":
        whole[at] ^= 0xFF
    else:
        del whole[at : at + 100]
    found = lint(bytes(whole))
    assert found[kind] == 1
    assert by_webdataset(path) == WHOLE
    assert set(by_annotate(path)) >= {"a", "d", "e", "f"}
    assert found.get("next to a damaged stretch", 0) + len(by_annotate(path)) >= 5


def test_missing_bytes_end_a_shard_for_webdataset_without_an_error(lint: Lint, path: Path) -> None:
    large = entry("c.jpg", os.urandom(9000))[:4000]
    content = sample("a") + sample("b") + large + sample("d") + sample("e") + END
    assert lint(content).keys() == {"damaged shard: bytes are missing"}
    with pytest.raises(tarfile.ReadError):
        by_webdataset(path)
    assert by_annotate(path) == ["a", "b", "d", "e"]


def test_joined_tars(lint: Lint, path: Path) -> None:
    assert lint(sample("a") + sample("b") + END + sample("c") + END) == {
        "damaged shard: more data after the end of the tar": 1
    }
    assert by_webdataset(path) == WHOLE
    assert by_annotate(path) == ["a", "b", "c"]


def test_what_is_no_tar(lint: Lint, path: Path) -> None:
    for content in (b"", b"hello" * 1000):
        assert lint(content) == {"not a tar": 1}
        with pytest.raises(tarfile.ReadError):
            by_webdataset(path)


def test_a_tar_that_was_compressed(lint: Lint, path: Path) -> None:
    assert lint(gzip.compress(sample("a") + sample("b") + END)) == {"not a tar": 1}
    assert by_webdataset(path) == WHOLE


def test_an_empty_shard(lint: Lint, path: Path) -> None:
    assert lint(bytes(10_240)) == {"empty shard": 1}
    assert by_webdataset(path) == []
    assert lint(entry("f/", kind=tarfile.DIRTYPE) + END) == {"empty shard": 1, "folder": 1}


def test_a_shard_that_cannot_be_read(tmp_path: Path) -> None:
    faults, usable = lint_shard(ShardRef(str(tmp_path / "gone.tar"), 0, 0.0))
    assert faults == [Fault("unreadable shard", "gone.tar: No such file or directory", 0)]
    assert usable == 0


# All kinds


def test_every_reason_of_the_reader_is_a_kind() -> None:
    """Each constant of `shards` and `tars` that is a sentence, but the reader's word for both."""
    reasons = {
        value
        for module in (shards, tars)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and " " in value
    }
    assert reasons - {shards.REPEATED} <= KINDS.keys()


def test_faults_are_found_wherever_bytes_are_changed(
    path: Path, tar_bytes: MakeTar, people: People, write: Write
) -> None:
    """Nothing is lost without a word, and what is said to be usable is what annotate uses."""
    whole = tar_bytes([member for each in people(6) for member in each])
    for at in range(0, len(whole) - 2048, 173):
        changed = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        shard = write(path, changed)
        faults, usable = lint_shard(shard)
        read = list(read_samples(shard))
        lost = [each for each in read if isinstance(each, Failure)]
        assert usable == len(read) - len(lost)
        assert bool(lost) <= bool(faults)
        assert all(fault.kind in KINDS and 0 <= fault.offset <= len(whole) for fault in faults)


# What is said to mend them does


@needs_gnu_tar
def test_packing_again_in_order_mends_interleaved_members(path: Path, lint: Lint) -> None:
    order = [
        "b.jpg",
        "a b.jpg",
        "a.jpg",
        "b.txt",
        "a b.txt",
        "a.txt",
        "c/d.jpg",
        "a.json",
        "c/d.txt",
    ]
    interleaved = b"".join(entry(name, b"{}") for name in order)
    assert lint(interleaved + END) == {"interleaved members": 4}
    command = mending.REPACK.replace("SHARD", "shard.tar").replace("NEW.tar", "mended.tar")
    subprocess.run(command, shell=True, cwd=path.parent, check=True)
    mended = path.with_name("mended.tar")
    (shard,) = find_shards(str(mended))
    assert counts(shard) == {}
    assert by_annotate(mended) == ["a b", "a", "b", "c/d"]


@needs_gnu_tar
@pytest.mark.parametrize("commands", [[mending.RENAME, mending.REPACK]])
def test_renaming_while_unpacking_mends_dotted_keys(
    path: Path, lint: Lint, commands: list[str]
) -> None:
    assert lint(sample("1.5") + sample("x.y/1.6") + sample("c") + END) == {"dotted key": 4}
    rename, repack = commands
    steps = [rename, repack.partition(" && ")[2].partition(" && ")[2]]  # it is unpacked already
    for step in steps:
        command = step.replace("SHARD", "shard.tar").replace("NEW.tar", "mended.tar")
        subprocess.run(command, shell=True, cwd=path.parent, check=True)
    mended = path.with_name("mended.tar")
    assert counts(find_shards(str(mended))[0]) == {}
    keys = ["1_5", "c", "x.y/1_6"]
    assert by_annotate(mended) == [key for key, _ in by_webdataset(mended)] == keys


@needs_gnu_tar
def test_ignoring_zeros_unpacks_joined_tars(path: Path, lint: Lint) -> None:
    lint(sample("a") + END + sample("b") + END)
    command = mending.JOIN.replace("SHARD", "shard.tar")
    subprocess.run(command, shell=True, cwd=path.parent, check=True)
    assert len(list((path.parent / "new").iterdir())) == 4


@needs_gnu_tar
def test_dereferencing_packs_what_is_linked(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("x")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "c.jpg")
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("x")
    files = sorted(each.name for each in tmp_path.iterdir())
    for options, wanted in (
        ([], {"link": 2, "no image": 2}),
        (["--dereference", "--hard-dereference"], {}),
    ):
        subprocess.run(["tar", *options, "-cf", "s.tar", *files], cwd=tmp_path, check=True)
        assert counts(find_shards(str(tmp_path / "s.tar"))[0]) == wanted


# All shards


@pytest.fixture
def folder(tmp_path: Path, people: People, write_shards: WriteShards, write: Write) -> Path:
    """Three clean shards and two with faults."""
    write_shards(tmp_path / "shards", people(60), 3)
    write(tmp_path / "shards" / "00003.tar", sample("a") + entry("b.txt") + sample("1.5"))
    write(tmp_path / "shards" / "00004.tar", b"".join(map(entry, ("c.jpg", "d.txt"))) + END)
    return tmp_path / "shards"


def test_faults_are_added_up_over_shards(folder: Path) -> None:
    found = validate(ValidateSettings(shards=(str(folder),)))
    assert (found.shards, found.samples) == (5, 62)
    summary = [(each.kind.name, each.count, each.shards) for each in found.findings]
    assert summary == [
        ("dotted key", 2, 1),
        ("no image", 2, 2),
        ("no caption", 1, 1),
        ("no end mark", 1, 1),
    ]
    assert [each.kind.name for each in found.errors] == ["dotted key", "no image", "no caption"]
    no_image = found.findings[1]
    assert no_image == Finding(
        kind=KINDS["no image"],
        count=2,
        shards=2,
        shard=str(folder / "00003.tar"),
        name="b",
        offset=2048,
    )
    assert Validation.model_validate_json(found.model_dump_json()) == found


def test_every_fault_stands_in_a_table(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "faults"
    validate(ValidateSettings(shards=(str(folder),), output=str(output)))
    assert len(list(output.iterdir())) == 10
    assert read_table(str(output), "00003").to_pylist() == [
        {"kind": "no image", "name": "b", "offset": 2048},
        {"kind": "dotted key", "name": "1.5.jpg", "offset": 3072},
        {"kind": "dotted key", "name": "1.5.txt", "offset": 4096},
        {"kind": "no end mark", "name": "00003.tar", "offset": 5120},
    ]
    assert len(read_table(str(output), "00000")) == 0


def test_the_same_bytes_and_result_for_any_number_of_workers(folder: Path, tmp_path: Path) -> None:
    found, made = [], []
    for processes in (1, 2):
        output = tmp_path / f"faults{processes}"
        beam = BeamSettings(processes=processes)
        found.append(
            validate(ValidateSettings(shards=(str(folder),), output=str(output), beam=beam))
        )
        made.append({path.name: path.read_bytes() for path in output.iterdir()})
    assert found[0] == found[1] and made[0] == made[1]


def test_what_is_committed_is_not_read_again(
    folder: Path, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ValidateSettings(shards=(str(folder),), output=str(tmp_path / "faults"))
    before = validate(settings)
    (tmp_path / "faults" / "00001.json").unlink()
    write(folder / "00004.tar", sample("c") + END)
    read: list[str] = []

    def watched(shard: ShardRef) -> tuple[list[Fault], int]:
        read.append(shard.stem)
        return lint_shard(shard)

    monkeypatch.setattr("pipelines.validation.lint_shard", watched)
    after = validate(settings)
    assert sorted(read) == ["00001", "00004"]
    assert (before.samples, after.samples) == (62, 63)
    assert [each.kind.name for each in after.findings] == ["dotted key", "no image", "no end mark"]


def test_the_shards_are_not_changed_and_nothing_is_left(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    validate(ValidateSettings(shards=(str(folder),)))
    after = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    assert after == before


def test_other_runners_need_an_output(folder: Path) -> None:
    beam = BeamSettings(runner="FlinkRunner")
    with pytest.raises(InputError, match=r"FlinkRunner cannot write .* give an output folder"):
        validate(ValidateSettings(shards=(str(folder),), beam=beam))


def test_remote_shards_and_output(folder: Path, shelf: Callable[[Path], str]) -> None:
    output = folder.parent / "faults"
    output.mkdir()
    here = validate(ValidateSettings(shards=(str(folder),)))
    there = validate(ValidateSettings(shards=(shelf(folder),), output=shelf(output)))
    assert [each.count for each in there.findings] == [each.count for each in here.findings]
    assert there.findings[0].shard == shelf(folder / "00003.tar")


def test_tables_of_metadata_are_refused(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "meta.parquet", b"parquet")
    with pytest.raises(InputError, match="a table of metadata, not a tar"):
        validate(ValidateSettings(shards=(str(tmp_path / "meta.parquet"),)))


def test_the_emoji_shards_are_clean(shared_data: Path) -> None:
    found = validate(ValidateSettings(shards=(str(shared_data / "emoji"),)))
    assert (found.samples, found.findings) == (7060, ())
