"""Pictures out of requests: data URLs only, never a path, never an address."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from lift.data.image import picture
from lift.serving.refusals import Refused

_HEAD = re.compile(r"data:(image/[a-z0-9.+-]{1,64})?;base64,", re.IGNORECASE)
_MOST_HEAD = 256
_TOGETHER = 4


def require_data_url(image: str) -> str:
    """Return what is a data URL. Raises Refused: anything else, which would have to be read."""
    if _HEAD.match(image[:_MOST_HEAD]):
        return image
    raise Refused(
        400,
        "An image comes as a data URL, data:image/jpeg;base64,...; the server reads no paths and "
        "no addresses.",
    )


def content_of(image: str) -> bytes:
    """Return the bytes of a data URL's file. Raises Refused: it is none, or no base64."""
    head = _HEAD.match(require_data_url(image)[:_MOST_HEAD])
    assert head is not None, "checked above"
    try:
        return base64.b64decode(image[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "The image is no valid base64.") from error


def checked(image: str, pixels: int) -> bytes:
    """Return the bytes of a data URL's file once its header says that it can be decoded.

    Args:
        image: a data URL.
        pixels: that it may have.

    Raises:
        Refused: no data URL.
        BrokenSample: no image, damaged, or too large.
    """
    return checked_all([image], pixels)[0]


def checked_all(images: Sequence[str], pixels: int) -> list[bytes]:
    """Return the bytes of the files of one query, which is worked on in one go.

    Args:
        images: data URLs.
        pixels: that each may have; all of them together have at most four times as many.

    Raises:
        Refused: no data URL, or too many pixels together.
        BrokenSample: no image, damaged, or too large.
    """
    found: list[bytes] = []
    total = 0
    for image in images:
        content = content_of(image)
        opened = picture(content, max_pixels=pixels)
        total += opened.height * opened.width
        found.append(content)
    if total > _TOGETHER * pixels:
        raise Refused(
            400,
            f"The images of a query have at most {_TOGETHER * pixels:,} pixels together, not "
            f"{total:,}; send smaller ones.",
        )
    return found
