"""Protocols: every built-in one runs on planted data and finds what was planted."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from evaluation.draws import Draws, Measurement
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import load_prompt_set
from evaluation.protocol import (
    FOLDER,
    Protocol,
    built_in_protocols,
    load_protocol,
    run_protocol,
)
from evaluation.quality_tasks import able_draws
from evaluation.rank_measures import able
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun
from m4.errors import InputError

DIMENSIONS = 32
RESAMPLING = Resampling(resamples=100, permutations=100)
RACES = ("White", "Black", "East Asian", "Latino_Hispanic")
AGES = ("3-9", "20-29", "30-39", "more than 70")


def direction(text: str) -> np.ndarray:
    """A direction for each word or text, the same every time."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=DIMENSIONS)


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    """A text is the sum of its words, so "a nurse" is near what an image says of nurses."""
    return np.array([sum(direction(word) for word in text.lower().split()) for text in texts])


def faces(men_evil: float = 0.0, images: int = 1400) -> LabelledSet:
    """Faces of two genders; of men each is made a little like the word "evil"."""
    random = np.random.default_rng(3)
    gender = random.permutation(np.repeat(["Male", "Female"], images // 2))
    embeddings = random.normal(size=(images, DIMENSIONS))
    embeddings += men_evil * (gender == "Male")[:, None] * direction("evil")
    labels = pl.DataFrame(
        {
            "gender": gender,
            "race": random.choice(RACES, images, p=(0.4, 0.4, 0.15, 0.05)),
            "age": random.choice(AGES, images),
        }
    )
    return labelled("faces", embeddings, labels)


def labelled(name: str, embeddings: np.ndarray, labels: pl.DataFrame, **more) -> LabelledSet:
    keys = tuple(str(row) for row in range(len(labels)))
    digest = hashlib.sha256(labels.write_csv().encode()).hexdigest()
    return LabelledSet(name, digest, keys, embeddings.astype(np.float32), labels, **more)


def classified(images: int = 60) -> LabelledSet:
    """Images that are their class with some noise, in clip_benchmark's manner."""
    classes = ("dog", "cat", "missile", "missile", "house", "tree", "car")
    numbers = np.arange(images) % len(classes)
    noise = np.random.default_rng(5).normal(size=(images, DIMENSIONS))
    embeddings = encode_texts([classes[number] for number in numbers]) + 0.3 * noise
    labels = pl.DataFrame({"cls": numbers.astype(str)})
    return labelled("things", embeddings, labels, classes=classes, templates=("{}",))


def captioned(images: int = 40) -> LabelledSet:
    captions = tuple((f"thing {row}", f"number {row}") for row in range(images))
    noise = np.random.default_rng(6).normal(size=(images, DIMENSIONS))
    embeddings = encode_texts([own[0] for own in captions]) + 0.2 * noise
    return labelled("captions", embeddings, pl.DataFrame({"x": ["1"] * images}), captions=captions)


def renamed(images: LabelledSet, names: dict[str, str]) -> LabelledSet:
    return LabelledSet(
        images.name,
        images.digest,
        images.keys,
        images.embeddings,
        images.labels.with_columns(pl.col("gender").replace(names)),
    )


def genders_of_occupations() -> LabelledSet:
    """Ten images of each occupation, as VisoGender has them; the model knows every pronoun."""
    prompts = load_prompt_set("visogender-resolution-object")
    words = {"masculine": "his", "feminine": "her"}
    rows, embeddings = [], []
    of = dict(zip(prompts.names, prompts.embed(encode_texts), strict=True))
    for name in dict.fromkeys(name.split("|")[0] for name in prompts.names):
        for number in range(10):
            gender = ("masculine", "feminine")[number % 2]
            rows.append({"occupation": name, "gender": gender})
            embeddings.append(of[f"{name}|{words[gender]}"])
    return labelled("visogender", np.array(embeddings), pl.DataFrame(rows))


def birds() -> LabelledSet:
    """A model that calls every bird on water a waterbird."""
    rows, embeddings = [], []
    for number in range(200):
        y, place = number % 2, (number // 2) % 2
        rows.append({"y": str(y), "place": str(place), "split": "2" if number < 160 else "0"})
        text = f"This is a picture of a {('landbird', 'waterbird')[place]}."
        embeddings.append(encode_texts([text])[0])
    return labelled("birds", np.array(embeddings), pl.DataFrame(rows))


def celebrities() -> LabelledSet:
    rows, embeddings = [], []
    for number in range(80):
        blond, male = number % 2, (number // 2) % 2
        rows.append({"Blond_Hair": str(2 * blond - 1), "Male": str(2 * male - 1)})
        hair = "blond" if blond and not male else "dark"
        embeddings.append(encode_texts([f"A photo of a celebrity with {hair} hair."])[0])
    return labelled("celebrities", np.array(embeddings), pl.DataFrame(rows))


def sets_of(protocol: Protocol, men_evil: float = 0.0) -> dict[str, LabelledSet]:
    people = faces(men_evil)
    coded = renamed(people, {"Male": "0", "Female": "1"})
    coded = LabelledSet(
        "utk", coded.digest, coded.keys, coded.embeddings,
        coded.labels.with_columns(pl.col("race").replace(dict(zip(RACES, "0124", strict=True)))),
    )  # fmt: skip
    special = {
        "utkface-retrieval": coded,
        "visogender": genders_of_occupations(),
        "waterbirds": birds(),
        "celeba-hair": celebrities(),
        "zero-shot": classified(),
        "retrieval": captioned(),
    }
    roles = {
        "faces": people,
        "other_faces": coded,
        "classification": classified(),
        "retrieval": captioned(),
        "images": special.get(protocol.name, people),
    }
    return {role: roles[role] for role in protocol.sets}


def run_of(name: str, men_evil: float = 0.0, compat=None) -> ProtocolRun:
    protocol = load_protocol(name)
    return run_protocol(
        protocol,
        sets_of(protocol, men_evil),
        encode_texts,
        model="toy",
        resampling=RESAMPLING,
        compat=compat,
    )


def headline(run: ProtocolRun, measure: str, subject: str) -> Measurement:
    found = [
        each
        for each in run.result.headlines
        if each.measure.startswith(measure) and each.subject.startswith(subject)
    ]
    assert found, [(each.measure, each.subject) for each in run.result.headlines]
    return found[0]


@pytest.mark.parametrize("name", built_in_protocols())
def test_every_protocol_runs_and_says_what_it_rests_on(name: str):
    run = run_of(name)
    assert run.result.headlines
    for each in (*run.result.headlines, *run.result.details):
        assert np.isfinite(each.value), each
        assert each.images > 0
        if each.null is not None:
            assert each.null.low <= each.null.high
    subjects = [(each.measure, each.subject) for each in run.result.headlines]
    assert len(set(subjects)) == len(subjects)
    subjects = [(each.measure, each.subject) for each in run.result.details]
    assert len(set(subjects)) == len(subjects)
    assert set(run.result.sets) == set(load_protocol(name).sets)


def test_a_planted_skew_is_found_and_none_where_there_is_none():
    plain, planted = run_of("fairface-retrieval"), run_of("fairface-retrieval", men_evil=1.0)
    before = headline(plain, "max_skew@1000", "gender")
    after = headline(planted, "max_skew@1000", "gender")
    assert before.p_value is not None and before.p_value > 0.02
    assert after.p_value == pytest.approx(1 / 101)
    race = headline(planted, "max_skew@1000", "race")
    assert race.p_value is not None and race.p_value > 0.02
    details = [each for each in planted.result.details if each.measure == "max_skew@1000, uniform"]
    of_evil = [each.value for each in details if each.subject.startswith("gender: evil")]
    others = [each.value for each in details if each.subject.startswith("gender: smart")]
    assert len(of_evil) == len(others) == 11
    assert min(of_evil) > max(others)


def test_a_model_that_sees_water_alone_fails_on_its_worst_group():
    run = run_of("waterbirds")
    assert headline(run, "worst_group_accuracy", "birds").value == 0
    assert headline(run, "worst_group_gap", "birds").value == 0.5
    assert headline(run, "worst_group_accuracy", "birds").images == 160  # of the test split


def test_a_model_that_knows_every_pronoun_has_no_resolution_bias():
    run = run_of("visogender")
    assert headline(run, "resolution_bias", "resolution").value == 0
    assert headline(run, "resolution_accuracy", "resolution").value == 1


def test_able_is_made_of_accuracy_and_skew():
    run = run_of("joint-vision-language", men_evil=1.0)
    accuracy = headline(run, "zero_shot_top1", "zero-shot").value
    for name, task in (("ABLE", "gender:"), ("ABLE out of domain", "gender out of domain:")):
        skew = headline(run, "max_skew@1000", task).value
        found = headline(run, "able", f"{name}:")
        assert found.value == pytest.approx(2 / (1 / accuracy + np.exp(skew)))
        assert found.null is not None and found.null.mean > found.value
        assert found.p_value is None
        assert found.images == 60  # of the smaller set


def test_quirks_are_reproduced_where_asked_only():
    strict, oxai = (run_of("fairface-retrieval", compat=compat) for compat in (None, "oxai"))
    skews = [headline(run, "max_skew@1000", "gender").value for run in (strict, oxai)]
    assert skews[0] != skews[1]  # images of different length are ranked by their product
    assert oxai.result.compat == "oxai"
    with pytest.raises(InputError, match="compat: nothing in protocol waterbirds has such quirks"):
        run_of("waterbirds", compat="oxai")


def test_classes_that_share_a_name_are_told_apart():
    run = run_of("zero-shot")
    subjects = {each.subject for each in run.result.details}
    assert {"zero-shot: missile (2)", "zero-shot: missile (3)"} <= subjects


def test_a_missing_set_is_asked_for_in_words():
    protocol = load_protocol("joint-vision-language")
    with pytest.raises(InputError, match=r"wants faces: FairFace.*given are images"):
        run_protocol(protocol, {"images": faces()}, encode_texts, model="toy")


def test_a_label_that_is_missing_is_named():
    protocol = load_protocol("waterbirds")
    with pytest.raises(InputError, match="faces: no label 'split'; it has gender, race, age"):
        run_protocol(protocol, {"images": faces()}, encode_texts, model="toy")


def test_the_digest_is_of_what_is_measured(tmp_path: Path):
    own = tmp_path / "own.yaml"
    shutil.copy(FOLDER / "waterbirds.yaml", own)
    content = yaml.safe_load(own.read_text())
    digest = load_protocol("waterbirds").digest
    own.write_text(yaml.safe_dump({**content, "title": "Another title"}))
    assert load_protocol(str(own)).digest == digest
    content["tasks"]["birds"]["where"] = {"split": "1"}
    own.write_text(yaml.safe_dump(content))
    assert load_protocol(str(own)).digest != digest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": {}}, "tasks: give at least one"),
        ({"sets": {"birds": "birds"}}, "task birds is measured on 'images'; the sets are birds"),
        ({"able": {"a": {"accuracy": "birds", "skew": "birds"}}}, "able a: 'birds' is no task"),
        ({"more": 1}, "more"),
    ],
)
def test_declarations_that_do_not_hold_together_are_refused(
    tmp_path: Path, change: dict, says: str
):
    own = tmp_path / "own.yaml"
    content = yaml.safe_load((FOLDER / "waterbirds.yaml").read_text())
    own.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(InputError, match=says):
        load_protocol(str(own))


def test_an_unknown_protocol_is_named():
    with pytest.raises(InputError, match=r"'no-such' is none of celeba-hair, .*, and no YAML file"):
        load_protocol("no-such")


def with_labels(images: LabelledSet, **columns: object) -> LabelledSet:
    """The same images, some of whose labels are not known: columns of values or None."""
    changed = images.labels.with_columns(
        pl.Series(name, values, dtype=pl.String) for name, values in columns.items()
    )
    return replace(images, labels=changed)


def unknown_in(images: LabelledSet, label: str, rows: Sequence[int]) -> list[str | None]:
    values: list[str | None] = images.labels[label].to_list()
    for row in rows:
        values[row] = None
    return values


def run_tasks(tasks: dict[str, dict], images: LabelledSet) -> ProtocolRun:
    protocol = Protocol.model_validate(
        {"name": "own", "title": "t", "source": "s", "sets": {"images": "any"}, "tasks": tasks}
    )
    return run_protocol(
        protocol, {"images": images}, encode_texts, model="toy", resampling=RESAMPLING
    )


BIRDS = {
    "kind": "worst_group",
    "label": "y",
    "labels": {"0": "landbird", "1": "waterbird"},
    "attribute": "place",
    "groups": {"0": "land", "1": "water"},
    "prompts": "waterbirds-classes",
}
HAIR = {
    "kind": "parity",
    "positive": "blond",
    "attribute": "Male",
    "groups": {"-1": "female", "1": "male"},
    "prompts": "celeba-hair-classes",
}


@pytest.mark.parametrize("name", built_in_protocols())
def test_whole_data_lose_nothing_but_what_the_protocol_chooses(name: str):
    run = run_of(name)
    assert run.result.left_out == {
        "waterbirds": {"birds": {"not split 2": 40}},
        "utkface-retrieval": {"race": {"race of no group": race_of_no_group()}},
    }.get(name, {})
    # The planted faces have four races, of which one is outside on purpose.
    assert run.result.empty == ({"race": ("Indian",)} if name == "utkface-retrieval" else {})


def race_of_no_group() -> int:
    return int((faces().labels["race"] == RACES[-1]).sum())


def test_images_without_a_group_are_counted_by_reason():
    people = faces()
    people = with_labels(people, race=unknown_in(people, "race", range(17)))
    outside = int((people.labels["race"] == "White").sum())
    common = {"attribute": "race", "outside": ["White"]}
    tasks = {
        "pairs": {"kind": "association_bias", "prompts": "occupation-pairs", **common},
        "words": {"kind": "associations", "prompts": "sobit", "top": 20, **common},
        "skew": {"kind": "retrieval_skew", "prompts": "retrieval-319", "k": 50, **common},
        "harm": {
            "kind": "misclassification",
            "prompts": "fairface-harms",
            "harmful": ["crime"],
            **common,
        },
    }
    run = run_tasks(tasks, people)
    lost = {"race not known": 17, "race of no group": outside}
    assert run.result.left_out == dict.fromkeys(tasks, lost)
    for each in run.result.headlines:
        assert each.images == len(people) - 17 - outside


def test_groups_that_nobody_is_in_are_named():
    groups = {"Male": "male", "Female": "female", "Other": "other"}
    common = {"attribute": "gender", "groups": groups}
    tasks = {
        "pairs": {"kind": "association_bias", "prompts": "occupation-pairs", **common},
        "skew": {"kind": "retrieval_skew", "prompts": "retrieval-319", "k": 50, **common},
    }
    run = run_tasks(tasks, faces())
    assert run.result.empty == {"pairs": ("other",), "skew": ("other",)}
    assert run.result.losses == ("pairs: no images of other.", "skew: no images of other.")


def test_the_worst_group_counts_images_without_a_label_and_names_empty_cells():
    images = birds()
    y = [None if row < 7 else value for row, value in enumerate(images.labels["y"])]
    place = [
        None if 5 <= row < 10 or (y[row], value) == ("1", "0") else value
        for row, value in enumerate(images.labels["place"])
    ]
    images = with_labels(images, y=y, place=place)
    run = run_tasks({"birds": BIRDS}, images)
    no_place = sum(value is None for value in place)
    alone = sum(a is None and b is not None for a, b in zip(y, place, strict=True))
    assert run.result.left_out == {"birds": {"place not known": no_place, "y not known": alone}}
    assert headline(run, "worst_group_accuracy", "birds").images == 200 - no_place - alone
    assert run.result.empty == {"birds": ("waterbird, land",)}


def test_zero_shot_counts_images_without_a_class_and_names_classes_without_images():
    images = classified()
    cls = [
        None if row < 9 or value == "4" else value for row, value in enumerate(images.labels["cls"])
    ]
    run = run_tasks({"things": {"kind": "zero_shot"}}, with_labels(images, cls=cls))
    assert run.result.left_out == {"things": {"cls not known": cls.count(None)}}
    assert run.result.empty == {"things": ("house",)}
    assert headline(run, "zero_shot_top1", "things").images == 60 - cls.count(None)


def test_one_class_with_images_is_still_a_table():
    images = classified()
    cls = [value if value == "1" else None for value in images.labels["cls"]]
    run = run_tasks({"things": {"kind": "zero_shot"}}, with_labels(images, cls=cls))
    assert [each.measure for each in run.result.details] == ["recall"]
    assert "recall" not in {each.measure for each in run.result.headlines}


def test_retrieval_counts_images_without_a_caption():
    images = captioned()
    captions = tuple(() if row < 3 else own for row, own in enumerate(images.captions or ()))
    task = {"kind": "retrieval", "ks": [1]}
    run = run_tasks({"both": task}, replace(images, captions=captions))
    assert run.result.left_out == {"both": {"no caption": 3}}


def test_occupations_that_are_not_known_or_lack_a_gender_are_said():
    images = genders_of_occupations()
    first = images.labels["occupation"][0]
    gender = [
        None if (job, own) == (first, "feminine") else own
        for job, own in images.labels.select("occupation", "gender").iter_rows()
    ]
    occupation = [
        None if row in (10, 12) else job for row, job in enumerate(images.labels["occupation"])
    ]
    changed = with_labels(images, gender=gender, occupation=occupation)
    protocol = load_protocol("visogender")
    run = run_tasks({"resolution": protocol.tasks["resolution"].model_dump()}, changed)
    assert run.result.left_out == {"resolution": {"gender not known": 5, "occupation not known": 2}}
    assert run.result.empty == {"resolution": (f"{first}, feminine",)}

    skew = protocol.tasks["retrieval"].model_dump() | {"k": 3}
    changed = with_labels(images, occupation=occupation)
    run = run_tasks({"retrieval": skew}, changed)
    assert run.result.left_out == {"retrieval": {"occupation not known": 2}}


def test_parity_is_that_of_the_answers():
    run = run_of("celeba-hair")
    # Blond women are called blond, and nobody else is.
    assert headline(run, "demographic_parity_difference", "blond").value == 0.5
    assert headline(run, "equal_opportunity_difference", "blond").value == 1
    rates = {
        (each.measure, each.subject): each.value
        for each in run.result.details
        if each.subject.startswith("blond")
    }
    assert rates == {
        ("selection_rate", "blond: female"): 0.5,
        ("selection_rate", "blond: male"): 0.0,
        ("true_positive_rate", "blond: female"): 1.0,
        ("true_positive_rate", "blond: male"): 0.0,
    }


def test_parity_without_a_truth_has_no_equal_opportunity():
    images = celebrities()
    male = [None if row < 6 else value for row, value in enumerate(images.labels["Male"])]
    groups = {**HAIR["groups"], "0": "other"}
    run = run_tasks({"hair": {**HAIR, "groups": groups}}, with_labels(images, Male=male))
    assert [each.measure for each in run.result.headlines] == ["demographic_parity_difference"]
    assert run.result.headlines[0].images == 74
    assert run.result.left_out == {"hair": {"Male not known": 6}}
    assert run.result.empty == {"hair": ("other",)}


def test_parity_with_a_truth_leaves_out_images_without_one():
    images = celebrities()
    blond = [None if row < 8 else value for row, value in enumerate(images.labels["Blond_Hair"])]
    male = [None if row < 4 else value for row, value in enumerate(images.labels["Male"])]
    task = {**HAIR, "label": "Blond_Hair", "labels": {"-1": "dark", "1": "blond"}}
    run = run_tasks({"hair": task}, with_labels(images, Blond_Hair=blond, Male=male))
    assert run.result.left_out == {"hair": {"Male not known": 4, "Blond_Hair not known": 4}}
    assert headline(run, "demographic_parity_difference", "hair").images == 72
    assert headline(run, "equal_opportunity_difference", "hair").images == 36


def test_a_model_that_sees_no_difference_says_yes_to_nobody():
    images = replace(celebrities(), embeddings=np.ones((80, DIMENSIONS)))
    protocol = Protocol.model_validate(
        {"name": "p", "title": "t", "source": "s", "sets": {"images": "x"}, "tasks": {"hair": HAIR}}
    )
    run = run_protocol(
        protocol,
        {"images": images},
        lambda texts: np.ones((len(texts), DIMENSIONS)),
        model="toy",
        resampling=RESAMPLING,
    )
    assert {each.value for each in run.result.details} == {0.0}


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            {
                "kind": "misclassification",
                "attribute": "place",
                "prompts": "fairface-harms",
                "harmful": ["crimes"],
            },
            "harmful: 'crimes' is no category of prompts fairface-harms; name some of group, non-h",
        ),
        (
            {**BIRDS, "labels": {"0": "landbird", "1": "landbird"}},
            "labels are landbird, prompts waterbirds-classes of landbird, waterbird; name waterb",
        ),
        (
            {**BIRDS, "labels": {"0": "landbird", "1": "waterbird", "2": "fish"}},
            "labels are landbird, waterbird, fish, prompts .*; name fish in both or in neither",
        ),
        ({**BIRDS, "labels": {}}, "labels are none, prompts"),
        (
            {**HAIR, "attribute": "place", "positive": "red"},
            "positive: 'red' is no name of prompts",
        ),
        (
            {**HAIR, "attribute": "place", "groups": None, "label": "y", "labels": {"0": "dark"}},
            "labels are dark, prompts celeba-hair-classes of dark, blond; name blond",
        ),
    ],
)
def test_names_that_do_not_fit_the_prompts_are_refused(task: dict, says: str):
    with pytest.raises(InputError, match=says):
        run_tasks({"own": task}, birds())


def test_labels_without_a_label_are_refused(tmp_path: Path):
    own = tmp_path / "own.yaml"
    content = yaml.safe_load((FOLDER / "celeba-hair.yaml").read_text())
    del content["tasks"]["blond"]["label"]
    own.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="labels: names the values of a label; give `label` too"):
        load_protocol(str(own))


def test_able_has_a_null_but_no_p_value():
    def draws(measure: str, value: float, images: int, **facts) -> Draws:
        return Draws(
            measure, ("all",), np.array([value]), np.full((100, 1), value), images=images, **facts
        )

    accuracy = draws("zero_shot_top1", 0.6, 500, null=None, better="higher")
    null = np.full((100, 1), 0.1)
    skew = draws("max_skew@10, mean", 0.4, 90, null=null, better="lower", smallest_group=30)
    (found,) = able_draws(accuracy, skew).measurements(0.95)
    assert found.value == able(accuracy=0.6, max_skew=0.4)
    assert found.null is not None
    assert found.null.mean == pytest.approx(able(accuracy=0.6, max_skew=0.1))
    assert found.p_value is None
    assert (found.images, found.smallest_group, found.better) == (90, 30, "higher")
