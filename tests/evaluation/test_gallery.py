"""Galleries: membership, counts and what is refused."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy import sparse

from evaluation.gallery import Gallery
from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.patterns import Patterns


def make(**changes: object) -> Gallery:
    parts: dict[str, object] = {
        "uids": ("a", "b", "c"),
        "captions": ("one", "two", " "),
        "s": np.array([[0.5, 0.5], [0.49, 0.51], [1.0, 0.0]]),
        "observed": np.array([[True, True], [True, True], [False, True]]),
        "y": sparse.csr_array(np.array([[1.0, 0.0], [0.4, 0.5], [0.0, 1.0]])),
        "value_names": ("gender.woman", "gender.man"),
        "labels": ("nurse",),
        "proxies": ("machines",),
    }
    return Gallery(**(parts | changes))  # type: ignore[arg-type]


def test_membership_needs_an_observation_and_at_least_half() -> None:
    groups = make().groups(("gender.woman", "gender.man"))
    assert groups.tolist() == [[True, True], [False, True], [False, False]]
    assert make().groups(("gender.man",)).tolist() == [[True], [True], [False]]


def test_labels_are_shown_from_a_half_on_and_proxies_are_no_labels() -> None:
    gallery = make()
    assert gallery.shows(("machines", "nurse")).tolist() == [
        [False, True],
        [True, False],
        [True, False],
    ]
    assert gallery.labelled.tolist() == [True, False, False]
    assert gallery.people.tolist() == [True, True, False]


def test_values_of_an_attribute_are_not_those_of_a_longer_name() -> None:
    gallery = make(value_names=("age.old", "age group.old"))
    assert gallery.values_of("age") == ("age.old",)


def test_counts() -> None:
    counts = make().counts()
    assert (counts.images, counts.captions, counts.without_caption) == (3, 2, 1)
    assert (counts.people, counts.unlabelled_people) == (2, 1)
    assert counts.values == {"gender.woman": 1, "gender.man": 2}
    assert counts.labels == {"nurse": 1, "machines": 2}


def test_digest_names_the_images_in_any_order() -> None:
    assert make().counts().digest == make(uids=("c", "a", "b")).counts().digest
    assert make().counts().digest != make(uids=("a", "b", "d")).counts().digest


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make().uids = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"captions": ("one",)}, "1 captions for 3 uids"),
        ({"uids": ("a", "b", "a")}, "uid 'a' is in the gallery twice"),
        ({"uids": ("a", "b")}, r"s has shape \(3, 2\), but 2 uids"),
        ({"observed": np.ones((3, 1), dtype=bool)}, r"observed has shape \(3, 1\)"),
        ({"labels": ()}, r"y has shape \(3, 2\), but .* 1 labels"),
        ({"s": np.full((3, 2), np.nan)}, "s holds nan"),
        ({"s": np.full((3, 2), 1.5)}, "s holds 1.5"),
        ({"y": sparse.csr_array(np.full((3, 2), -1.0))}, "y holds -1.0"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(**changes)


def test_an_empty_gallery_is_refused() -> None:
    empty = np.zeros((0, 2))
    with pytest.raises(InputError, match="no images"):
        make(uids=(), captions=(), s=empty, observed=empty > 0, y=sparse.csr_array(empty))


def test_from_patterns_keeps_marks_and_names(catalogue: Catalogue) -> None:
    s = np.array([[1, 0, np.nan, np.nan], [0, 1, 1, 0]])
    patterns = Patterns.from_arrays(s, np.eye(2, 5))
    gallery = Gallery.from_patterns(patterns, ["a", "b"], ["x", "y"], catalogue)
    assert gallery.value_names == catalogue.value_names
    assert gallery.labels == ("nurse", "doctor", "librarian", "scientist")
    assert gallery.proxies == ("machines",)
    assert gallery.groups(catalogue.value_names).tolist() == [
        [True, False, False, False],
        [False, True, True, False],
    ]


def test_distinct_patterns_are_not_images(catalogue: Catalogue) -> None:
    patterns = Patterns.from_arrays(np.ones((2, 4)), np.eye(2, 5), counts=[1, 3])
    with pytest.raises(InputError, match="row 1 stands for 3 images"):
        Gallery.from_patterns(patterns, ["a", "b"], ["x", "y"], catalogue)
