import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.ahead import ahead


@given(st.lists(st.one_of(st.none(), st.integers(), st.just(()))))
def test_the_same_items_in_the_same_order(items: list):
    assert list(ahead(items)) == items


def test_the_next_item_is_made_meanwhile_and_no_further_one():
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    for item in ahead(items()):
        assert second.wait(10)  # though nobody has asked for it yet
        time.sleep(0.001)
        assert len(made) <= item + 2
    assert made == list(range(10))


def test_an_error_comes_where_the_item_would():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more")

    seen = []
    with pytest.raises(OSError, match="no more"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [1, 2]


def test_stopping_early_leaves_no_thread():
    before = threading.active_count()
    for item in ahead(range(1000)):
        if item == 3:
            break
    del item
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before
