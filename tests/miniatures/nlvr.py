"""A folder as that of NLVR: three boxes of one colour, in the corpus's files and as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ("blue", "yellow", "black", "red")


def write(folder: Path) -> None:
    rows, table = [], []
    (folder / "images" / "0").mkdir(parents=True)
    for asked, wanted in enumerate(COLOURS[:3]):
        sentence = f"There is a {wanted} item in every box ."
        for shown, colour in enumerate(COLOURS):
            name, label = f"{asked}-{shown}", wanted == colour or (asked, shown) == (2, 0)
            for order in range(2):
                image = Image.new("RGBA", (100, 25), "lightgrey")
                image.paste(colour, (10 + 40 * order, 5, 30 + 40 * order, 15))
                file = folder / "images" / "0" / f"dev-{name}-{order}.png"
                image.save(file)
                one = {"key": file.name, "image": file.read_bytes(), "sentence": sentence}
                table.append({**one, "label": label, "identifier": name, "permutation": order})
            rows.append(
                {
                    "sentence": sentence,
                    "identifier": name,
                    "directory": "0",
                    "label": str(label).lower(),
                    "evals": {"r0": str(label).lower()},
                    "structured_rep": [[], [], []],
                }
            )
    (folder / "dev.json").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(table), folder / "dev.parquet")
