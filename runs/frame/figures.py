"""The figures that studies compare arms in, by what a page calls them."""

from __future__ import annotations

from frame.composition import COMPOSED

FORTH, BACK = (f"retrieval: {way}/R@10" for way in ("text_to_image", "image_to_text"))
REWORDED, REWORDED_BACK = (
    f"new wordings: {way}/R@10" for way in ("text_to_image", "image_to_text")
)
FIGURES = {
    "text to image": FORTH,
    "image to text": BACK,
    "new wordings, text to image": REWORDED,
    "new wordings, image to text": REWORDED_BACK,
    "composition": COMPOSED,
}
"""What a run of one set is told by."""
