"""Turn descriptions of requests into methods of clients that block or await."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from retort.client.calls import Call, Listing, Steps

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Blocking(ABC):
    """Carries descriptions out, and returns when they are answered."""

    @abstractmethod
    def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Do what the *steps* ask for, one after the other; return their answer."""

    @abstractmethod
    def each(self, listing: Listing[Answer]) -> Iterator[Answer]:
        """Yield the values of a *listing*."""


class Awaiting(ABC):
    """Carries descriptions out in an event loop."""

    @abstractmethod
    async def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Do what the *steps* ask for, one after the other; return their answer."""

    @abstractmethod
    def each(self, listing: Listing[Answer]) -> AsyncIterator[Answer]:
        """Yield the values of a *listing*."""


class BlockingPart(Blocking):
    """Part of a blocking client, such as its webhooks."""

    def __init__(self, client: Blocking) -> None:
        self._client = client

    def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Have the client do what the *steps* ask for."""
        return self._client.carry_out(steps)

    def each(self, listing: Listing[Answer]) -> Iterator[Answer]:
        """Have the client yield the values of a *listing*."""
        return self._client.each(listing)


class AwaitingPart(Awaiting):
    """Part of a client for event loops, such as its webhooks."""

    def __init__(self, client: Awaiting) -> None:
        self._client = client

    async def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Have the client do what the *steps* ask for."""
        return await self._client.carry_out(steps)

    def each(self, listing: Listing[Answer]) -> AsyncIterator[Answer]:
        """Have the client yield the values of a *listing*."""
        return self._client.each(listing)


class Operation(Generic[Given, Answer]):
    """A method that describes steps: a client of either kind carries them out."""

    def __init__(self, describe: Callable[Concatenate[Any, Given], Steps[Answer]]) -> None:
        @wraps(describe)
        def carried_out(self: Any, *args: Given.args, **named: Given.kwargs) -> Any:
            return self.carry_out(describe(self, *args, **named))

        self._function: Any = carried_out

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, Given], Any]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[Given, Answer]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[Given, Coroutine[Any, Any, Answer]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._function.__get__(instance, owner)


class Listed(Generic[Given, Answer]):
    """A method that describes a list: a client of either kind yields its values."""

    def __init__(self, describe: Callable[Concatenate[Any, Given], Listing[Answer]]) -> None:
        @wraps(describe)
        def listed(self: Any, *args: Given.args, **named: Given.kwargs) -> Any:
            return self.each(describe(self, *args, **named))

        self._function: Any = listed

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, Given], Any]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[Given, Iterator[Answer]]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[Given, AsyncIterator[Answer]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._function.__get__(instance, owner)


def call(describe: Callable[Concatenate[Any, Given], Call[Answer]]) -> Operation[Given, Answer]:
    """Make a method of one request."""

    @wraps(describe)
    def described(self: Any, /, *args: Given.args, **named: Given.kwargs) -> Steps[Answer]:
        answer: Answer = yield describe(self, *args, **named)
        return answer

    return Operation(described)


def steps(describe: Callable[Concatenate[Any, Given], Steps[Answer]]) -> Operation[Given, Answer]:
    """Make a method of several requests."""
    return Operation(describe)


def listing(describe: Callable[Concatenate[Any, Given], Listing[Answer]]) -> Listed[Given, Answer]:
    """Make a method that yields what is in a list, page after page."""
    return Listed(describe)
