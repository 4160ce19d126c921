"""Labelled pictures from a folder with a table, and from tars."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from pydantic import ValidationError

from m4.errors import InputError
from pipelines.image_sets import NO_FILE, NO_ROW, ROWS, ImageSetSettings, open_images
from pipelines.labelled_images import OTHER_LABELS, ImageSource, LabelledImage, Selection
from pipelines.metadata_tables import Dropped
from pipelines.shards import CAPTION_NOT_UTF8, NO_IMAGE, REPEATED, Failure

Tar = Callable[..., bytes]


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 99)).save(stream, "PNG")
    return stream.getvalue()


def read(source: ImageSource) -> list[LabelledImage]:
    return [each for shard in source.shards for each in shard if isinstance(each, LabelledImage)]


def rest(source: ImageSource) -> list[Failure | Dropped]:
    found = (each for shard in source.shards for each in shard)
    return [each for each in found if not isinstance(each, LabelledImage)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one of them in a folder below."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "c.PNG", "more/d.png"]):
        (tmp_path / "pictures" / name).write_bytes(png(number))
    return tmp_path / "pictures"


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., str]:
    def write(content: str, name: str = "labels.csv") -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


class TestFolder:
    def test_a_row_is_a_picture_with_its_labels_without_space_around(
        self, folder: Path, csv: Callable
    ):
        path = csv(
            "age,file,Gender,caption\n"
            "007,more/d.png, Male ,a man\n"
            'NA,a.png,Female,\n1.50,b.png,"",  \n  ,c.PNG,?, x\n'
        )
        source = open_images(ImageSetSettings(images=str(folder), labels=path))
        assert source.name == "pictures" and source.classes is None and source.left_out == {}
        images = read(source)
        assert [each.key for each in images] == ["more/d.png", "a.png", "b.png", "c.PNG"]
        assert [each.image for each in images] == [png(3), png(0), png(1), png(2)]
        assert [dict(each.labels) for each in images] == [
            {"age": "007", "Gender": "Male"},
            {"age": "NA", "Gender": "Female"},
            {"age": "1.50"},
            {"Gender": "?"},
        ]
        assert [each.captions for each in images] == [("a man",), (), (), ("x",)]

    def test_csv_tsv_and_parquet_say_the_same(self, folder: Path, csv: Callable, tmp_path: Path):
        frame = pl.DataFrame({"file": ["a.png", "b.png"], "age": [7, None], "tall": [True, False]})
        frame = frame.with_columns(  # none of them is a label
            faces=pl.Series([[1, 2], [3]]),
            image=pl.Series([b"\xff\xd8", b"\x89"]),
            length=pl.Series([timedelta(1), timedelta(2)]),
        )
        frame.write_parquet(tmp_path / "labels.parquet")
        paths = [
            csv("file,age,tall\na.png,7,true\nb.png,,false\n"),
            csv("file\tage\ttall\na.png\t7\ttrue\nb.png\t\tfalse\n", "labels.tsv"),
            str(tmp_path / "labels.parquet"),
        ]
        found = [
            read(open_images(ImageSetSettings(images=str(folder), labels=path))) for path in paths
        ]
        assert found[0] == found[1] == found[2]
        assert [dict(each.labels) for each in found[0]] == [
            {"age": "7", "tall": "true"},
            {"tall": "false"},
        ]

    def test_labels_are_renamed_and_say_which_pictures_are_used(self, folder: Path, csv: Callable):
        path = csv("image,Male,split\na.png,1,2\nb.png,-1,0\nc.PNG,-1,2\nmore/d.png,,2\n")
        settings = ImageSetSettings(
            images=str(folder),
            labels=path,
            file_column="image",
            columns={"gender": "Male"},
            where={"split": "2"},
        )
        source = open_images(settings)
        assert [(each.key, dict(each.labels)) for each in read(source)] == [
            ("a.png", {"gender": "1", "split": "2"}),
            ("c.PNG", {"gender": "-1", "split": "2"}),
            ("more/d.png", {"split": "2"}),
        ]
        assert rest(source) == [Dropped(OTHER_LABELS)]

    def test_values_are_replaced_before_pictures_are_chosen(self, folder: Path, csv: Callable):
        path = csv("file,sex\na.png,1\nb.png, 0\nc.PNG,9\nmore/d.png,1\n")
        replaced = {"gender.1": "Male", "gender.0": "Female", "gender.9": ""}
        settings = ImageSetSettings(
            images=str(folder), labels=path, columns={"gender": "sex"}, values=replaced
        )
        labels = [dict(each.labels) for each in read(open_images(settings))]
        assert labels == [{"gender": "Male"}, {"gender": "Female"}, {}, {"gender": "Male"}]
        men = settings.model_copy(update={"where": {"gender": "Male"}})
        assert [each.key for each in read(open_images(men))] == ["a.png", "more/d.png"]
        for entry in ("sex.1", "gender.2", "Male"):
            wrong = settings.model_copy(update={"values": {**replaced, entry: "x"}})
            with pytest.raises(InputError, match=f"values: no image has '{entry}'.*it has gender"):
                open_images(wrong)

    @pytest.mark.parametrize("name", ["../a.png", "more/../../a.png", "/a.png", "s3://x/a.png"])
    def test_names_that_lead_out_of_the_folder(self, folder: Path, csv: Callable, name: str):
        (folder.parent / "a.png").write_bytes(png(0))
        settings = ImageSetSettings(images=str(folder), labels=csv(f"file\nb.png\n{name}\n"))
        with pytest.raises(InputError, match=rf"labels.csv: row 1, .* {name} leads out of the"):
            open_images(settings)

    def test_pictures_that_are_not_used_are_not_read(self, folder: Path, csv: Callable):
        path = csv("file,split\na.png,2\nnot here.png,1\n")
        settings = ImageSetSettings(images=str(folder), labels=path, where={"split": "2"})
        assert rest(open_images(settings)) == [Dropped(OTHER_LABELS)]

    def test_files_without_a_row_are_counted_and_rows_without_a_file_fail(
        self, folder: Path, csv: Callable
    ):
        (folder / "notes.txt").write_text("no picture")
        source = open_images(
            ImageSetSettings(images=str(folder) + "/", labels=csv("file,x\na.png,1\ne.png,2\n"))
        )
        assert source.left_out == {NO_ROW: 3}
        assert rest(source) == [Failure(str(folder) + "/", "e.png", NO_FILE)]

    def test_a_folder_instead_of_a_file_is_set_aside(self, folder: Path, csv: Callable):
        source = open_images(
            ImageSetSettings(images=str(folder), labels=csv("file\na.png\nmore\n"))
        )
        assert [each.reason for each in rest(source)] == ["file cannot be read: Is a directory"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("name,x\na.png,1\n", "no column 'file' that names the picture; it has name, x"),
            ("file,x\na.png,1\n,2\n", "file is empty in 1 rows, the first is row 1"),
            ("file,x\na.png,1\nb.png,2\na.png,1\n", "file a.png stands in more than one row"),
            ("file,x\na.png,1,2\n", "cannot be read"),
            ("", "cannot be read"),
        ],
    )
    def test_tables_that_cannot_be_used(self, folder: Path, csv: Callable, content: str, said: str):
        with pytest.raises(InputError, match=said):
            open_images(ImageSetSettings(images=str(folder), labels=csv(content)))

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("labels.csv", b"file;age\na.png;1,5\n", "separated by semicolons.* a csv .* commas"),
            ("labels.csv", b"file\tage\na.png\t1\n", "separated by tabs.* a csv .* commas"),
            ("labels.tsv", b"file,age\na.png,1\n", "separated by commas.* a tsv .* by tabs"),
            ("labels.csv", "file,age\na.png,1\n".encode("utf-16"), "in UTF-16, .* as UTF-8"),
            ("labels.csv", "file,age\na.png,1\n".encode("utf-16-le"), "in UTF-16"),
        ],
    )
    def test_tables_that_a_spreadsheet_saves_otherwise(
        self, folder: Path, tmp_path: Path, name: str, content: bytes, said: str
    ):
        (tmp_path / name).write_bytes(content)
        settings = ImageSetSettings(images=str(folder), labels=str(tmp_path / name))
        with pytest.raises(InputError, match=rf"{name}: .*{said}"):
            open_images(settings)

    def test_a_mark_of_utf8_is_no_part_of_a_name(self, folder: Path, tmp_path: Path):
        (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbffile\na.png\n")
        settings = ImageSetSettings(images=str(folder), labels=str(tmp_path / "labels.csv"))
        assert [each.key for each in read(open_images(settings))] == ["a.png"]

    def test_a_folder_of_pictures_needs_labels(self, folder: Path):
        with pytest.raises(InputError, match=r"a folder of 4 pictures, and no tars; .*--labels"):
            open_images(ImageSetSettings(images=str(folder)))

    def test_what_is_not_there(self, folder: Path, csv: Callable, tmp_path: Path):
        path = csv("file,x\na.png,1\n")
        with pytest.raises(InputError, match=r"cannot be read: .*No such file"):
            open_images(ImageSetSettings(images=str(folder), labels=path + "x"))
        (tmp_path / "empty").mkdir()
        for name in ("empty", "nowhere"):
            with pytest.raises(InputError, match="no pictures"):
                open_images(ImageSetSettings(images=str(tmp_path / name), labels=path))
        for wrong in ({"columns": {"gender": "Male"}}, {"where": {"gender": "1"}}):
            with pytest.raises(InputError, match=r"no column '(Male|gender)'.*it has x"):
                open_images(ImageSetSettings(images=str(folder), labels=path, **wrong))

    def test_many_rows_are_read_in_order(self, tmp_path: Path, csv: Callable):
        names = [f"{number}.png" for number in range(ROWS + 3)]
        for number, name in enumerate(names):
            (tmp_path / name).write_bytes(png(number))
        path = csv("file\n" + "\n".join(reversed(names)) + "\n")
        source = open_images(ImageSetSettings(images=str(tmp_path), labels=path))
        assert len(source.shards) == 2
        assert [each.key for each in read(source)] == names[::-1]
        assert read(source) == read(source)  # each iteration reads anew

    def test_on_remote_storage(self, folder: Path, csv: Callable, shelf: Callable):
        path = csv("file,x\nmore/d.png,1\na.png,2\n")
        settings = ImageSetSettings(images=shelf(folder), labels=shelf(Path(path)))
        source = open_images(settings)
        assert source.left_out == {NO_ROW: 2}
        local = open_images(ImageSetSettings(images=str(folder), labels=path))
        assert read(source) == read(local) and len(read(local)) == 2


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ("data/people", "people"),
        ("data/people/", "people"),
        ("people", "people"),
        ("data/people/000.tar", "000.tar"),
        ("data/repair-shards/*.tar", "repair-shards/*.tar"),
        ("data/repair-shards/{000..012}.tar", "repair-shards/{000..012}.tar"),
        ("data/repair-shards/00?.tar", "repair-shards/00?.tar"),
        ("data/repair-shards/[ab].tar", "repair-shards/[ab].tar"),
        ("data/arms/*/test/*.tar", "arms/*/test/*.tar"),
        ("*.tar", "*.tar"),
        ("/*.tar", "/*.tar"),
        ("s3://bucket/more/*.tar", "more/*.tar"),
        (".", "."),
    ],
)
def test_a_set_is_called_as_the_last_part_of_its_path_or_a_pattern_with_its_folder(
    images: str, name: str
):
    assert ImageSetSettings(images=images).name == name


class TestTars:
    def test_labels_are_the_plain_fields_of_the_json(self, tmp_path: Path, tar_bytes: Tar):
        fields = {
            "gender": "female", "age": 31, "score": 0.5, "person": True, "group": None,
            "faces": [1], "box": {"x": 1}, "empty": "", "blank": " \t", "caption": "a nurse",
            "odd": " \ud800",
        }  # fmt: skip
        (tmp_path / "a.tar").write_bytes(
            tar_bytes([("1.png", png(1)), ("1.json", json.dumps(fields).encode())])
        )
        (image,) = read(open_images(ImageSetSettings(images=str(tmp_path))))
        assert (image.key, image.image, image.captions) == ("a/1", png(1), ("a nurse",))
        assert image.labels == {
            "gender": "female", "age": "31", "score": "0.5", "person": "true", "odd": "\\ud800",
        }  # fmt: skip

    def test_captions_and_classes(self, tmp_path: Path, tar_bytes: Tar):
        members = [
            ("1.png", png(1)), ("1.txt", b" two\nlines \n"), ("1.json", b'{"caption": "other"}'),
            ("2.png", png(2)), ("2.json", b'{"caption": ["one", " two", "", 3]}'),
            ("3.png", png(3)), ("3.cls", b" 12\n"),
            ("4.png", png(4)), ("4.txt", b"  "), ("4.cls", b"x"), ("4.json", b'{"cls": "y"}'),
            ("5.png", png(5)), ("5.cls", b" "),
        ]  # fmt: skip
        (tmp_path / "a.tar").write_bytes(tar_bytes(members))
        images = read(open_images(ImageSetSettings(images=str(tmp_path / "a.tar"))))
        assert [each.captions for each in images] == [("two\nlines",), ("one", "two"), (), (), ()]
        assert [dict(each.labels) for each in images] == [{}, {}, {"cls": "12"}, {"cls": "x"}, {}]

    def test_samples_of_several_tars_have_names_of_their_own(self, tmp_path: Path, tar_bytes: Tar):
        for name in ("a", "b"):
            (tmp_path / f"{name}.tar").write_bytes(tar_bytes([("1.png", png(1))]))
        source = open_images(ImageSetSettings(images=str(tmp_path)))
        assert [each.key for each in read(source)] == ["a/1", "b/1"]

    def test_what_cannot_be_used_is_told(self, tmp_path: Path, tar_bytes: Tar):
        members = [
            ("1.png", png(1)), ("2.txt", b"no picture"), ("3.png", png(3)), ("3.txt", b"\xff"),
            ("4.png", png(4)), ("4.json", b"{"), ("1.png", png(9)), ("5.png", png(5)),
            ("5.cls", b"\xff"), ("6.png", png(6)),
        ]  # fmt: skip
        whole = tar_bytes(members)
        (tmp_path / "a.tar").write_bytes(whole)
        (tmp_path / "b.tar").write_bytes(b"no tar" * 200)
        source = open_images(ImageSetSettings(images=str(tmp_path)))
        assert [each.key for each in read(source)] == ["a/1", "a/6"]
        failures = rest(source)
        assert [(each.shard, each.key, each.reason) for each in failures[:-1]] == [
            ("a.tar", "2", NO_IMAGE),
            ("a.tar", "3", CAPTION_NOT_UTF8),
            ("a.tar", "4", "json cannot be parsed"),
            ("a.tar", "1", REPEATED),
            ("a.tar", "5", "cls is not UTF-8"),
        ]
        assert failures[-1].shard == "b.tar" and failures[-1].rest
        (tmp_path / "a.tar").unlink()  # between finding and reading
        assert any("unreadable" in each.reason for each in rest(source))

    @pytest.mark.parametrize(("cut", "whole"), [(700, 0), (2100, 2), (3000, 2)])
    def test_a_tar_that_was_cut_off_gives_what_is_left(
        self, tmp_path: Path, tar_bytes: Tar, cut: int, whole: int
    ):
        (tmp_path / "a.tar").write_bytes(tar_bytes([(f"{n}.png", png(n)) for n in range(4)])[:cut])
        source = open_images(ImageSetSettings(images=str(tmp_path)))
        assert len(read(source)) == whole
        assert [each.rest for each in rest(source)] == [True]

    def test_where_and_columns(self, tmp_path: Path, tar_bytes: Tar):
        members = []
        for number, sex in enumerate(["m", "f", "f", None]):
            members += [(f"{number}.png", png(number))]
            members += [(f"{number}.json", json.dumps({"sex": sex, "n": number}).encode())]
        (tmp_path / "a.tar").write_bytes(tar_bytes(members))
        chosen = {"columns": {"gender": "sex"}, "where": {"gender": "f"}}
        source = open_images(ImageSetSettings(images=str(tmp_path), **chosen))
        assert [dict(each.labels) for each in read(source)] == [
            {"gender": "f", "n": "1"},
            {"gender": "f", "n": "2"},
        ]
        assert rest(source) == [Dropped(OTHER_LABELS)] * 2
        clash = ImageSetSettings(images=str(tmp_path), columns={"n": "sex"})
        with pytest.raises(InputError, match=r"columns names 'sex' 'n', but there is a label"):
            read(open_images(clash))

    def test_a_name_that_is_asked_for_is_never_another_label(self, tmp_path: Path, tar_bytes: Tar):
        """Samples that lack `sex` do not lend their own `gender`: two sources would be mixed."""
        said = [{"sex": "f"}, {"gender": "m"}, {"gender": "f", "n": 1}]
        members = []
        for number, fields in enumerate(said):
            members += [(f"{number}.png", png(number))]
            members += [(f"{number}.json", json.dumps(fields).encode())]
        (tmp_path / "a.tar").write_bytes(tar_bytes(members))
        settings = ImageSetSettings(images=str(tmp_path), columns={"gender": "sex"})
        labels = [dict(each.labels) for each in read(open_images(settings))]
        assert labels == [{"gender": "f"}, {}, {"n": "1"}]

    @pytest.mark.parametrize(
        ("chosen", "said"),
        [
            ({"where": {"gendr": "f"}}, "where: no image has a label 'gendr'; it has n, sex"),
            ({"columns": {"n": "age"}}, "no image has a label 'age' to be 'n'; it has sex$"),
            ({"values": {"sex.x": "y"}}, r"values: no image has 'sex\.x'.*; it has n, sex"),
        ],
    )
    def test_what_nothing_has_is_known_when_all_was_read(
        self, tmp_path: Path, tar_bytes: Tar, chosen: dict, said: str
    ):
        fields = [b'{"sex": "f", "n": 1}', b'{"sex": " m ", "blank": " "}']
        for number, content in enumerate(fields):
            members = [("1.png", png(number)), ("1.json", content)]
            (tmp_path / f"{number}.tar").write_bytes(tar_bytes(members))
        source = open_images(ImageSetSettings(images=str(tmp_path), **chosen))
        source.labeller.check_met("nothing was read, so that nothing can be said")
        read(source)
        with pytest.raises(InputError, match=said):
            source.labeller.check_met("here")
        right = {"where": {"sex": "male"}, "values": {"sex.m": "male"}, "columns": {"k": "n"}}
        source = open_images(ImageSetSettings(images=str(tmp_path), **right))
        assert [dict(each.labels) for each in read(source)] == [{"sex": "male"}]
        source.labeller.check_met("here")

    def test_tables_of_metadata_have_no_pictures(self, tmp_path: Path):
        pl.DataFrame({"uid": ["a"], "caption": ["b"]}).write_parquet(tmp_path / "a.parquet")
        with pytest.raises(InputError, match="evaluation looks at them"):
            open_images(ImageSetSettings(images=str(tmp_path / "a.parquet")))

    def test_no_tars(self, tmp_path: Path):
        with pytest.raises(InputError, match="no shards"):
            open_images(ImageSetSettings(images=str(tmp_path)))

    def test_real_emoji(self, shared_data: Path):
        settings = ImageSetSettings(
            images=str(shared_data / "emoji" / "noto-00000.tar"),
            columns={"skin": "skin_tone"},
            where={"person": "true", "gender": "female"},
        )
        source = open_images(settings)
        images = read(source)
        assert len(images) > 50 and len(images) + len(rest(source)) == 500
        assert {each.labels["gender"] for each in images} == {"female"}
        assert {each.labels.get("skin") for each in images} >= {"light", "dark", None}
        assert all(len(each.captions) == 1 and "tags" not in each.labels for each in images)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"file_column": "image"}, "file_column has no effect without labels"),
        ({"labels": "x.csv", "split": "test"}, "split has no effect with labels"),
        ({"lables": "x.csv"}, "Extra inputs"),
    ],
)
def test_settings_without_effect(settings: dict, said: str):
    with pytest.raises(ValidationError, match=said):
        ImageSetSettings(images="x", **settings)


def test_a_split_of_plain_tars_has_no_effect(tmp_path: Path, tar_bytes: Tar):
    (tmp_path / "a.tar").write_bytes(tar_bytes([("1.png", png(1))]))
    with pytest.raises(InputError, match="split test has no effect"):
        open_images(ImageSetSettings(images=str(tmp_path), split="test"))


def test_one_label_may_be_given_two_names():
    selection = Selection(columns={"a": "x", "b": "x"})
    assert selection.names({"x": "1", "y": "2"}, "") == {"y": "2", "a": "1", "b": "1"}
    assert Selection(columns={"y": "x", "x": "y"}).names({"x": "1", "y": "2"}, "") == {
        "y": "1", "x": "2",
    }  # fmt: skip
