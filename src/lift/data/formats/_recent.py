"""A few loaded things at a time: the last ones asked for, by number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Recent(Generic[ItemT]):
    """Calls `load(number)` and keeps what was used last, up to `most` in total size.

    The newest is always kept, however large. A copy in another process starts empty.
    """

    def __init__(
        self,
        load: Callable[[int], ItemT],
        most: int,
        size: Callable[[ItemT], int] = lambda item: 1,
    ) -> None:
        self._load, self._most, self._size = load, most, size
        self._items: OrderedDict[int, ItemT] = OrderedDict()
        self._held = 0

    def __call__(self, number: int) -> ItemT:
        if number in self._items:
            self._items.move_to_end(number)
            return self._items[number]
        item = self._load(number)
        self._items[number] = item
        self._held += self._size(item)
        while self._held > self._most and len(self._items) > 1:
            self._held -= self._size(self._items.popitem(last=False)[1])
        return item
