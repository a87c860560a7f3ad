"""Send parts of an upload to the service's object store, by signed addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx2 as httpx

_TIMEOUT_S = 60.0


def put_parts(
    urls: Mapping[int, str], read: Callable[[int], bytes], ended: Callable[[int], None], *, at_a_time: int
) -> frozenset[int]:
    """Send parts to their addresses; return the numbers of those that are there.

    What comes after the first one that is refused, or does not get through, is left: addresses may be over. The
    service's key is not sent.
    """
    there = set()
    with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False) as http, ThreadPoolExecutor(at_a_time) as pool:
        sending = {pool.submit(_put, http, url, read, number): number for number, url in urls.items()}
        try:
            for sent in as_completed(sending):
                if not sent.result():
                    break
                there.add(sending[sent])
                ended(sending[sent])
        finally:
            pool.shutdown(cancel_futures=True)
        for sent, number in sending.items():
            if sent.done() and not sent.cancelled() and number not in there and sent.result():
                there.add(number)
                ended(number)
    return frozenset(there)


def _put(http: httpx.Client, url: str, read: Callable[[int], bytes], number: int) -> bool:
    try:
        return http.put(url, content=read(number)).is_success
    except httpx.TransportError:
        return False
