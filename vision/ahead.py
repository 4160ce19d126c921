"""Making the next item while the present one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

END = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items in their order; the next one is made in a thread meanwhile, and no more.

    What making an item raises is raised where that item would come. Whoever stops early waits for
    the item that is under way.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, iterator, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, iterator, END)
            yield item  # type: ignore[misc]  # `END` was the only thing that is no T
