"""One file a library that takes models: `lift export MODEL --to NAME`.

Such a file has a frozen `Config` (the options of `--set`), `build(config)` which returns an
`Exporter` (`_protocol.py`: `write(bundle, folder) -> Written`, then `check(bundle, folder, images)
-> differences`), and `NEEDS` where it can't write without a package. README.md, the model card, is
written by `export_model` for all of them, and so is the refusal of what differs too much.

What files share: `_protocol` (Written, Difference, difference), `_pictures` (what is compared on),
`_pixels` (image processors of transformers), `_quiet` (no bars), `_card` (README.md).
"""

from lift.export._card import Licences as Licences
from lift.export._run import Exported as Exported
from lift.export._run import export_model as export_model
