"""Read a checkpoint's pickle by its opcodes: nothing is imported, made or called."""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from retort.checkpoints import allowed, values
from retort.checkpoints.allowed import Global
from retort.checkpoints.archive import TorchArchive
from retort.checkpoints.records import Flaw, Instance, NumpyType, Ordered, Storage

MOST_OPERATIONS = 1_000_000
"""Opcodes of a pickle; the largest YOLO's have a fifth of that."""
_LARGEST_NUMBER = 1 << 63
_LARGEST_KEY = 1 << 53
_PROTOCOL = 2
_MARK = object()
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1"})


def read(archive: TorchArchive) -> Any:
    """Return what the pickle of *archive* holds, as records and plain values.

    Raises:
        Flaw: it holds what no checkpoint has; nothing of it was made.

    """
    return _Reader({key: one.file_size for key, one in archive.storages.items()}).read(archive.pickle)


class _Reader:
    """Stack and memo of a pickle, in which every object is a record."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._sizes = sizes
        self._known: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._memo: list[Any] = []
        self._does: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self._stack.append(_MARK),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "TUPLE": lambda _: self._stack.append(tuple(self._marked())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "BINUNICODE": self._stack.append,
            "BINFLOAT": self._stack.append,
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "GLOBAL": self._name,
            "BINPERSID": lambda _: self._stack.append(values.storage(self._pop(), self._sizes, self._known)),
            "REDUCE": self._reduce,
            "NEWOBJ": self._new,
            "BUILD": self._build,
            "APPEND": lambda _: self._extend([self._pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._update(self._several(2)),
            "SETITEMS": lambda _: self._update(self._marked()),
        }

    def read(self, content: bytes) -> Any:
        """Return what *content*, one pickle and nothing more, holds."""
        try:
            for operation, argument, place in itertools.islice(pickletools.genops(content), MOST_OPERATIONS):
                assert place is not None, "bytes have places"
                if operation.name == "STOP":
                    return self._end(place, len(content))
                self._step(operation.name, argument, place)
        except Flaw:
            raise
        except (ValueError, KeyError, IndexError, UnicodeError, OverflowError) as error:
            raise Flaw(f"its pickle cannot be read: {' '.join(str(error).split())[:200]}") from error
        raise Flaw(f"its pickle does not end within {MOST_OPERATIONS} operations")

    def _step(self, name: str, argument: Any, place: int) -> None:
        if (name == "PROTO") != (place == 0):
            raise Flaw("its pickle does not begin with its protocol, or says it twice")
        if name in self._does:
            self._does[name](argument)
        elif name in _NUMBERS:
            if abs(argument) >= _LARGEST_NUMBER:
                raise Flaw("it holds a number of more than 64 bits")
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name != "PROTO":
            raise Flaw(f"its pickle uses {name}, which torch never writes")
        elif argument != _PROTOCOL:
            raise Flaw(f"its pickle has the protocol {argument}, and torch writes {_PROTOCOL}")

    def _end(self, place: int, size: int) -> Any:
        if place != size - 1:
            raise Flaw("something follows its pickle")
        found = self._pop()
        if self._stack:
            raise Flaw("its pickle leaves values behind")
        return found

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise Flaw("its pickle takes a value that is not there")
        return self._stack.pop()

    def _several(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _marked(self) -> list[Any]:
        """Return the values above the last mark."""
        found: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if value is _MARK:
                return found[::-1]
            found.append(value)
        raise Flaw("its pickle goes back to a mark that is not there")

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise Flaw("its pickle fills a value that is not there")
        return self._stack[-1]

    def _tuple(self, count: int) -> None:
        self._stack.append(tuple(self._several(count)))

    def _remember(self, index: int) -> None:
        if index != len(self._memo):
            raise Flaw("its pickle numbers its values as pickle does not")
        self._memo.append(self._top())

    def _recall(self, index: int) -> None:
        if index >= len(self._memo):
            raise Flaw("its pickle goes back to a value that is not there")
        self._stack.append(self._memo[index])

    def _name(self, argument: str) -> None:
        found = Global(*argument.split(" ", 1))
        if found not in allowed.ALL:
            raise Flaw(f"it refers to {str(found)[:120]!r}, which no YOLO checkpoint needs")
        self._stack.append(found)

    def _reduce(self, _: Any) -> None:
        called, arguments = self._several(2)
        if not isinstance(called, Global) or type(arguments) is not tuple:
            raise Flaw("it calls something that has no name")
        self._stack.append(values.stands_for(called, arguments))

    def _new(self, _: Any) -> None:
        of, arguments = self._several(2)
        if not isinstance(of, Global) or of not in allowed.OBJECTS:
            raise Flaw(f"it makes an object of {of if isinstance(of, Global) else 'something that has no name'}")
        if arguments != ():
            raise Flaw(f"it makes an object of {of} with arguments")
        self._stack.append(Instance(of))

    def _build(self, _: Any) -> None:
        """Keep an object's attributes; those of torch's mappings, and numpy's of its types, say nothing."""
        state = self._pop()
        match self._top():
            case Instance(attributes=None) as filled if type(state) is dict and all(type(key) is str for key in state):
                filled.attributes = state
            case Ordered() if type(state) is dict and state.keys() <= {"_metadata"}:
                pass
            case NumpyType() if isinstance(state, tuple) and state[1:2] in {("<",), ("|",)}:
                pass
            case Instance(of=of):
                raise Flaw(f"an object of {of} is filled twice, or with something else than attributes")
            case _:
                raise Flaw("it fills a value that has no attributes")

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise Flaw("it appends to something that is no list")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict and type(target) is not Ordered:
            raise Flaw("it sets items of something that is no mapping")
        if len(items) % 2:
            raise Flaw("it sets a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and (type(key) is not int or abs(key) > _LARGEST_KEY):
                raise Flaw("a mapping in it has keys that are neither text nor numbers")
            target[key] = value
