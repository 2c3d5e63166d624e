"""One file a network from pixels to a raw vector.

Such a file has `Config` and `build(config)`, which returns an `nn.Module` with

- `width` (length of `h`), `resolution` (pixels of a side that it was built for; 0 where rows come
  in instead of pixels);
- a call: normalised pixels [b 3 h w] -> `h` [b width], which an image's neighbours have no part in;
- `blocks`: the repeated blocks, first to last, empty where there are none. Parameters that
  `named_parameters()` lists before those of the first block are the input's, those after the last
  block's are what pools and projects. What no gradient reaches has `requires_grad` false.

It may have as well:

- `pixels(config) -> dict`: fields of `lift.data.transform.Transform` (resolution, mean, std,
  interpolation, resize) that its weights were made with;
- `kept(config, tower) -> Part`: the part from which a saved model rebuilds the network. Its weights
  are in the model's own file, so nothing else is read: no folder, no hub. Its options are a
  stranger's when they come back. Without `kept` the resolved part itself is kept.
- `rebuild(config) -> nn.Module`: the network of a kept part, with random weights, whatever a
  stranger's options say: no folder, no hub. Without it `build` is called, which then reads neither.
- `NOT_IN_ROWS`: names of options that have no part in what it makes of an image at rest, such as
  what is dropped in training, or what its weights tell better.

`plugins.pixels`, `plugins.kept` and `plugins.rebuild` ask for the first three.
"""
