"""Conversations with pictures to token ids, and to what there is to be seen in them.

As its base, this only reads; any thread may call it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backends.base import RequestRefused
from backends.inprocess.images import Picture
from backends.inprocess.prompt import Prompt
from backends.inprocess.refusals import Code, refusal, refuse
from backends.memory import written
from backends.mlx.chat import TemplatePrompts
from backends.mlx.model import most_pixels, read_json
from backends.mlx.vision.family import Family
from backends.mlx.vision.positions import Grid, grid_positions
from backends.mlx.vision.processor import PictureProcessor, Seen, spliced
from backends.mlx.vision.room import Room
from backends.mlx.vision.sight import Image, Sight, place_images

logger = logging.getLogger(__name__)

_RETRY_AFTER = 1.0
"""Seconds, where others' pictures fill the room for them."""


def picture_prompts(
    tokenizer: Any,
    piece: Callable[[int], bytes] | None,
    directory: Path,
    *,
    family: Family,
    room: int,
) -> PicturePrompts:
    """Those of the model in `directory`; raises whatever its processor raises at the start.

    `room` is how many bytes the arrays of waiting pictures may take.
    """
    if not tokenizer.has_chat_template:
        # Where processors keep it that are older than the templates of tokenizers.
        template = read_json(directory / "chat_template.json").get("chat_template")
        if isinstance(template, str):
            tokenizer.chat_template = template
            tokenizer.has_chat_template = True
    vision = read_json(directory / "config.json").get("vision_config") or {}
    return PicturePrompts(
        tokenizer,
        piece,
        processor=PictureProcessor(directory, most_pixels=most_pixels()),
        family=family,
        merge=int(vision.get("spatial_merge_size") or 2),
        room=Room(room),
    )


class PicturePrompts(TemplatePrompts):
    """What a model that sees makes of a request."""

    def __init__(
        self,
        tokenizer: Any,
        piece: Callable[[int], bytes] | None,
        *,
        processor: PictureProcessor,
        family: Family,
        merge: int,
        room: Room,
    ) -> None:
        """`merge` is how many patches make one token, in each direction."""
        super().__init__(tokenizer, piece)
        self._processor = processor
        self._family = family
        self._merge = merge
        self._room = room

    def _encode_pictures(self, text: str, pictures: Sequence[Picture]) -> Prompt:
        """See `ChatPrompts`. What the text says of images itself would be taken for one."""
        placeholder = self._processor.placeholder
        if (found := text.count(placeholder)) != len(pictures):
            refuse(
                "messages",
                f"makes this model's template write {placeholder!r}, which stands for an image, "
                f"{found} times instead of {len(pictures)}: a text holds these words, or the "
                "template takes no image in that place",
            )
        seen = [self._see(picture) for picture in pictures]
        images = [one.image for one in seen]
        tokens = self._tokens(text, seen)
        try:
            places = place_images(tokens, images)
        except ValueError:
            refuse("messages", "holds a text that stands for an image with this model")
        if int(places[-1][-1]) == len(tokens) - 1:
            refuse("messages", "comes to a prompt that ends with an image; a text has to follow it")
        sight = self._sight(images, places, len(tokens))
        self._take_room(images)
        return Prompt(tokens, sight)

    def _see(self, picture: Picture) -> Seen:
        try:
            return self._processor.see(picture.pixels, picture.digest)
        except Exception as error:  # a checkpoint's processor, over a stranger's picture
            wide, high = picture.pixels.size
            what = f"holds an image that this model cannot read, of {wide}x{high} pixels"
            logger.debug("an image of %dx%d pixels was refused", wide, high, exc_info=error)
            raise refusal(picture.where, what) from error

    def _tokens(self, text: str, seen: Sequence[Seen]) -> list[int]:
        """Token ids of `text`, with what stands for each picture in place of its placeholder.

        What stands for it becomes part of the text, as a model's own processor does it, because a
        line break at its ends may be one token with the text's. Not every tokenizer gives back what
        it has decoded; with such a one, tokens are put in place of tokens.
        """
        if all(self._encode_rendered(one.text) == list(one.image.tokens) for one in seen):
            texts = [one.text for one in seen]
            return self._encode_rendered(spliced(text, self._processor.placeholder, texts))
        holder = self._encode_rendered(self._processor.placeholder)[-1]
        filled = iter(seen)
        tokens: list[int] = []
        for token in self._encode_rendered(text):
            tokens += next(filled).image.tokens if token == holder else [token]
        return tokens

    def _sight(self, images: list[Image], places: list[Any], length: int) -> Sight:
        if self._family.positions == "line":
            return Sight(images, places, length)
        grids: list[Grid] = []
        for image, there in zip(images, places, strict=True):
            time, rows, columns = image.inputs["image_grid_thw"][0].tolist()
            grids.append(Grid(int(there[0]), time, rows // self._merge, columns // self._merge))
        positions, ahead = grid_positions(length, grids)
        return Sight(images, places, length, positions, ahead)

    def _take_room(self, images: Sequence[Image]) -> None:
        """Raises `RequestRefused` where the pictures are too much."""
        needed, room = sum(image.nbytes for image in images), self._room
        if room.take(*[(image, image.nbytes) for image in images]):
            return
        if needed > room.nbytes:
            refuse(
                "messages",
                f"holds images that take {written(needed)} once they are read, and there is room "
                f"for {written(room.nbytes)}; send fewer, or smaller ones",
                code=Code.ARRAY_TOO_LONG,
            )
        raise RequestRefused(
            429,
            f"the images of waiting requests fill the {written(room.nbytes)} there are for them; "
            "try again later",
            code="engine_overloaded",
            retry_after=_RETRY_AFTER,
        )
