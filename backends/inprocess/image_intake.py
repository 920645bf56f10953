"""The pictures of requests on their way in: fetched, decoded, and never too many at a time.

Rules of this file:

- A picture is hundreds of times as large as the words about it. So what is decoded at a time is
  bounded in pixels, told from the files' heads: one that is as large as may be has it to itself,
  several small ones go together. Nothing is left of them but what `make` made when their pixels
  are given to others. Few requests at a time have files fetched, too, which they hold until then.
- Nothing is decoded in the event loop, and what decodes is counted until its thread is done with
  it, whoever has stopped waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from backends.inprocess.image_fetch import ImageFetcher
from backends.inprocess.image_hosts import ImageHosts
from backends.inprocess.image_parts import ImagePart, data_in, is_data
from backends.inprocess.images import MAX_PIXELS, Picture, pixels_of, read_picture
from backends.inprocess.refusals import Code, refusal, refuse
from backends.inprocess.turns import Turns
from backends.options import Images

T = TypeVar("T")

_AT_ONCE = 4
"""Requests whose pictures are decoded at the same time, where these are small enough. Those of
`MAX_PIXELS` take 0.3 to 1.4 GB, by format, so that is what all of them may have together."""
_FETCHED_AT_ONCE = 4
"""Requests that fetch theirs, or hold what they have fetched: each may have `_MAX_FETCHED`."""
_FETCH_WITHIN = 30.0
"""Seconds for all that a request has fetched."""
_MAX_FETCHED = 64 << 20
"""Bytes of it."""


class ImageIntake:
    """Makes pictures of what the requests to one engine bring."""

    def __init__(self, options: Images, *, max_waiting: int, queue_timeout: float) -> None:
        """`max_waiting` requests may wait for their turn, each for `queue_timeout` seconds."""
        self._most = options.max_per_request
        self._fetcher = ImageFetcher(ImageHosts(options.fetch_from))
        turns = partial(Turns, max_waiting=max_waiting, within=queue_timeout)
        self._decoding = turns(MAX_PIXELS, "to have images read")
        self._fetching = turns(_FETCHED_AT_ONCE, "to have images fetched")

    @property
    def waiting(self) -> int:
        """Requests that wait for a turn."""
        return self._fetching.waiting + self._decoding.waiting

    @property
    def waited(self) -> float:
        """Seconds that all have waited so far, together."""
        return self._fetching.waited + self._decoding.waited

    async def look(self, images: Sequence[ImagePart], make: Callable[[list[Picture]], T]) -> T:
        """What `make`, which is called in a worker thread, makes of the pictures of `images`.

        Raises `RequestRefused`, naming the image at fault, and whatever `make` raises.
        """
        if len(images) > self._most:
            what = f"hold {len(images)} images, and a request may have {self._most}"
            refuse("messages", what, code=Code.ARRAY_TOO_LONG)
        if all(map(is_data, images)):
            return await self._decoded(images, {}, make)
        await self._fetching.take()
        try:
            return await self._decoded(images, await self._fetched(images), make)
        finally:
            self._fetching.give()

    async def _decoded(
        self,
        images: Sequence[ImagePart],
        fetched: Mapping[str, bytes],
        make: Callable[[list[Picture]], T],
    ) -> T:
        pixels = await asyncio.to_thread(_pixels, images, fetched)
        taken = await self._decoding.take(max(pixels, MAX_PIXELS // _AT_ONCE))
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, lambda: make(_pictures(images, fetched)))
        work.add_done_callback(partial(self._done, taken))
        return await asyncio.shield(work)

    def _done(self, taken: int, work: asyncio.Future[T]) -> None:
        self._decoding.give(taken)
        if not work.cancelled():
            work.exception()  # it has been told, where there is still somebody to tell

    async def _fetched(self, images: Sequence[ImagePart]) -> dict[str, bytes]:
        """By field, the files of those that do not come with the request."""
        files: dict[str, bytes] = {}
        size = 0
        try:
            async with asyncio.timeout(_FETCH_WITHIN):
                for image in images:
                    if is_data(image):
                        continue
                    file = files[image.where] = await self._fetcher.fetch(image)
                    size += len(file)
                    if size > _MAX_FETCHED:
                        what = f"is beyond the {_MAX_FETCHED >> 20} MiB that a request may fetch"
                        refuse(image.where, what, code=Code.IMAGE_FILE_TOO_LARGE)
        except TimeoutError:
            what = f"hold images that take more than {_FETCH_WITHIN:g} s to fetch"
            raise refusal("messages", what, code=Code.IMAGE_DOWNLOAD) from None
        return files


def _pixels(images: Sequence[ImagePart], fetched: Mapping[str, bytes]) -> int:
    """Of all of them. Files are not kept for this: many requests may wait for their pixels."""
    found = 0
    for image in images:
        found += pixels_of(_file(image, fetched), image.where, room=MAX_PIXELS - found)
    return found


def _pictures(images: Sequence[ImagePart], fetched: Mapping[str, bytes]) -> list[Picture]:
    found = []
    room = MAX_PIXELS
    for image in images:
        picture = read_picture(_file(image, fetched), image.where, room=room)
        room -= picture.pixels.width * picture.pixels.height
        found.append(picture)
    return found


def _file(image: ImagePart, fetched: Mapping[str, bytes]) -> bytes:
    return fetched[image.where] if image.where in fetched else data_in(image)
