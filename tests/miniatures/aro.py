"""A folder as that of ARO: two halves of two colours, a box around both, and an order of words."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    relations, orders = [], []
    for number, colour in enumerate(COLOURS):
        name, other = f"{2316000 + number}.jpg", COLOURS[(number + 2) % len(COLOURS)]
        image = Image.new("RGB", (40, 30), "grey")
        image.paste(colour, (5, 5, 20, 25))
        image.paste(other, (20, 5, 35, 25))
        image.save(folder / "images" / name)
        relations.append(
            {
                "image_id": 2316000 + number,
                "image_path": name,
                "relation_name": "to the left of",
                "bbox_x": 5,
                "bbox_y": 5,
                "bbox_w": 30,
                "bbox_h": 20,
                "true_caption": f"the {colour} is to the left of the {other}",
                "false_caption": f"the {other} is to the left of the {colour}",
            }
        )
        orders.append(
            {
                "image": name,
                "caption_options": [
                    f"{colour} beside {other}",
                    f"beside {colour} {other}",
                    f"{other} {colour} beside",
                ],
            }
        )
    attributes = [
        {k: v for k, v in one.items() if k != "relation_name"}
        | {"attributes": ["big", "small"]}
        | {"true_caption": f"the {COLOURS[n]} half", "false_caption": f"the half {COLOURS[n]}"}
        for n, one in enumerate(relations)
    ]
    (folder / "visual_genome_relation.json").write_text(json.dumps(relations))
    (folder / "visual_genome_attribution.json").write_text(json.dumps(attributes))
    (folder / "coco_order.json").write_text(json.dumps(orders))
