"""Why something is no sample, or not all of one: the names by which every layout counts it."""

from __future__ import annotations

from collections.abc import Mapping

# Images
IMAGE_MISSING = "image missing"
IMAGE_EMPTY = "empty image"
IMAGE_FILE_TOO_LARGE = "image file too large"
IMAGE_UNREADABLE = "unreadable image file"
MASK_UNREADABLE = "unreadable mask"
IMAGE_OUTSIDE = "image path outside"
IMAGE_PATH = "image path that is none"
IMAGE_URL = "image that is a URL"
BOX_OUTSIDE = "box outside the image"
NO_FEATURES = "without stored features"

# Captions
CAPTION_EMPTY = "empty caption"
CAPTION_LONG = "caption too long"
CAPTION_NO_TEXT = "caption that is not text"
CAPTION_NO_UTF8 = "caption that is not UTF-8"
CAPTION_NUL = "caption with a NUL byte"
CAPTION_NO_FIELD = "without caption field"
CAPTION_ROLES = "without a caption of the roles"
CAPTION_UNREADABLE = "unreadable captions file"
CAPTION_WITHOUT_IMAGE = "caption without image"
CAPTION_OF_SEVERAL = "caption of several images"
IMAGE_OF_SAMPLE_TWICE = "another image of the same sample"
CAPTIONS_FILE_TWICE = "another captions file of the same image"
IMAGE_WITHOUT_CAPTION = "image without caption"

# Keys and rows
KEY_TWICE = "duplicate key"
KEY_MISSING = "without a key"
KEY_LONG = "key too long"
KEY_NO_UTF8 = "key that is not UTF-8"
ROW_FORM = "row of another form"
ROW_NO_JSON = "row that is not JSON"
ROW_NO_UTF8 = "row that is not UTF-8"
ROW_UNREADABLE = "unreadable row"
DAMAGED_JSON = "damaged .json"
OTHER_SPLIT = "of another split"
OTHER_SPLIT_OR_NONE = "of another split or without caption"
NO_IMAGES_IN_CLASS = "class without images"

# Names in folders
FILE_OTHER = "other file"
FILE_HIDDEN = "hidden file"
FILE_NO_UTF8 = "file name that is not UTF-8"
FOLDER_TOO_DEEP = "folder too deep"
LINK_OUT = "link out of the folder"
LINK_TO_FOLDER = "link to a folder"
LINK_UP = "link to a folder above it"

# Graded pairs
GRADE_BROKEN = "broken grade"
JUDGED_UNKNOWN = "judgement of an unknown item"
JUDGED_TWICE = "judgement given twice"
JUDGED_NEGATIVE = "judgement that is no positive"
ITEM_UNTOLD = "item without a judgement or text"
ITEM_UNSEEN = "item without an image"
ITEM_IMAGE_TWICE = "image of an item given twice"

OF_CAPTIONS = frozenset(
    {
        CAPTION_EMPTY,
        CAPTION_LONG,
        CAPTION_NO_TEXT,
        CAPTION_NO_UTF8,
        CAPTION_NUL,
        CAPTION_NO_FIELD,
        CAPTION_ROLES,
        CAPTION_UNREADABLE,
        DAMAGED_JSON,
    }
)
"""Kinds that are found when captions are read, before any image is."""

BESIDE = " beside a good one"
"""Ends the kind of a caption that is dropped while its sample stays."""

MEANINGS: Mapping[str, str] = {
    IMAGE_MISSING: "the sample names no image, or one that is not there",
    IMAGE_EMPTY: "the image file has no bytes",
    IMAGE_FILE_TOO_LARGE: "a file of the sample has more bytes than max_image_bytes",
    BOX_OUTSIDE: "the part of the image that is asked about lies outside of it",
    NO_FEATURES: "the run shows stored features, and none are stored of this image",
    IMAGE_UNREADABLE: "the image is there and can't be read: a folder, a pipe, no permission",
    MASK_UNREADABLE: "the mask of the image is missing, damaged, or no PNG of class numbers",
    IMAGE_OUTSIDE: "the path or link of the image leads out of its folder (allow_outside)",
    IMAGE_PATH: "what should be the path of an image can be none",
    IMAGE_URL: "the image is still on the web; download it first",
    CAPTION_EMPTY: "the caption is missing or has only blanks",
    CAPTION_LONG: "the caption has more characters than max_caption_chars",
    CAPTION_NO_TEXT: "a number, an object or the like stands where the caption should",
    CAPTION_NO_UTF8: "the bytes of the caption are no UTF-8",
    CAPTION_NUL: "the caption has a NUL byte",
    CAPTION_NO_FIELD: "the sample lacks the file, or its .json the field, of captions",
    CAPTION_ROLES: "the sample has captions, and none of the roles that take part",
    CAPTION_UNREADABLE: "the captions file of the sample is missing, too large, or can't be read",
    CAPTION_WITHOUT_IMAGE: "a caption is there and its image is not",
    CAPTION_OF_SEVERAL: "the caption names an image by a name that several images have",
    IMAGE_OF_SAMPLE_TWICE: "a sample of a shard has several images; the first is taken",
    CAPTIONS_FILE_TWICE: "an image has two captions files; the first is taken",
    IMAGE_WITHOUT_CAPTION: "an image is there and no caption for it",
    KEY_TWICE: "another sample had the key before; the first is taken",
    KEY_MISSING: "the sample has no value in the column or field of keys",
    KEY_LONG: "the key has more than 4,096 bytes",
    KEY_NO_UTF8: "the bytes of the key are no UTF-8",
    ROW_FORM: "a row or an entry lacks a part, or has too many",
    ROW_NO_JSON: "the line is not JSON, or no object",
    ROW_NO_UTF8: "the bytes of the row are no UTF-8",
    ROW_UNREADABLE: "the part of the file that holds the row is damaged",
    DAMAGED_JSON: "the sample's .json is not JSON, or no object",
    OTHER_SPLIT: "it belongs to a split that was not asked for",
    OTHER_SPLIT_OR_NONE: "no caption of the splits that were asked for",
    NO_IMAGES_IN_CLASS: "the folder of a class has no image",
    FILE_OTHER: "a file that is neither image nor captions",
    FILE_HIDDEN: "a name that starts with a dot",
    FILE_NO_UTF8: "the bytes of a file's name are no UTF-8",
    FOLDER_TOO_DEEP: "the folder lies below too many others",
    LINK_OUT: "the link leads out of the folder (allow_outside)",
    LINK_TO_FOLDER: "its files are listed where they are",
    LINK_UP: "following it would never end",
    GRADE_BROKEN: "the grade is no number from 0 on",
    JUDGED_UNKNOWN: "the judgement names no item that is there",
    JUDGED_TWICE: "the same query found the same item before; the first grade is taken",
    JUDGED_NEGATIVE: "the grade is 0 or below min_grade",
    ITEM_UNTOLD: "nothing is said of the item",
    ITEM_UNSEEN: "the item has no image",
    ITEM_IMAGE_TWICE: "the item has the same image twice",
}
"""What each kind means, for people."""
