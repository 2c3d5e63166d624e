"""Images into the vectors of a text space: a module for sentence-transformers, or for itself.

This file was written by `lift export` and needs torch, numpy, Pillow and safetensors, nothing
else. `LiftImage.load(FOLDER)` reads config.json and model.safetensors there.
"""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import nn

MAX_PIXELS = 89_478_485


class Saved(nn.Module):
    """A module that lies in a folder as config.json and model.safetensors."""

    def __init__(self, config):
        super().__init__()
        self.settings = config

    def save(self, output_path, *_, **__):
        """Write both files."""
        with open(os.path.join(output_path, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.settings, file, indent=2)
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, os.path.join(output_path, "model.safetensors"))

    @classmethod
    def load(cls, model_name_or_path, subfolder="", **options):
        """Return the module of a folder; of a hub id with sentence-transformers' help."""
        folder = os.path.join(model_name_or_path, subfolder)
        if not os.path.isdir(folder):
            from sentence_transformers.util import load_dir_path

            known = ("token", "cache_folder", "revision", "local_files_only")
            asked = {name: options[name] for name in known if name in options}
            folder = str(load_dir_path(model_name_or_path, subfolder, **asked))
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            module = cls(json.load(file))
        module.load_state_dict(load_file(os.path.join(folder, "model.safetensors")))
        return module.eval()


class LiftHead(Saved):
    """A head behind somebody else's network, then unit length."""

    def __init__(self, config):
        """Build the head in the shape that config.json tells."""
        super().__init__(config)
        self.head = Head(config, config["width"], config["dimensions"])

    def forward(self, features, **_):
        """Replace "sentence_embedding" by unit vectors [b d]."""
        features["sentence_embedding"] = unit(self.head(features["sentence_embedding"]))
        return features

    def get_embedding_dimension(self):
        """Return the length of a vector."""
        return self.settings["dimensions"]


class LiftImage(Saved):
    """Pixels, a vision transformer, a head, unit length."""

    modalities = ("image",)

    def __init__(self, config):
        """Build the network in the shape that config.json tells, its weights not loaded yet."""
        super().__init__(config)
        self.transform = config["transform"]
        self.tower = Tower(config["tower"])
        width, dimensions = config["tower"]["width"], config["dimensions"]
        self.head = Head(config["head"], width, dimensions) if config["head"] else None

    def forward(self, features, **_):
        """Put unit vectors [b d] under "sentence_embedding", from "pixel_values" [b 3 r r]."""
        h = self.tower(features["pixel_values"])
        z = h if self.head is None else self.head(h)
        features["sentence_embedding"] = unit(z)
        return features

    def preprocess(self, inputs, prompt=None, **_):
        """Return {"pixel_values": [b 3 r r]} of pictures: PIL, paths, or arrays [h w 3]."""
        return {"pixel_values": torch.stack([self.pixels(one) for one in inputs])}

    tokenize = preprocess

    def pixels(self, image):
        """Return what the network sees of one picture, normalised: float32 [3 r r]."""
        t = self.transform
        x = torch.from_numpy(opened(image, t["background"])).permute(2, 0, 1)
        if t["canvas"] is not None:
            x = self.square(x, t["canvas"])
        x = self.square(x, t["resolution"]).float()
        mean = torch.tensor(t["mean"], dtype=torch.float32).view(3, 1, 1)
        std = torch.tensor(t["std"], dtype=torch.float32).view(3, 1, 1)
        return (x - mean * 255) / (std * 255)

    def square(self, x, side):
        """Return a square of pixels: the central one, or squashed; uint8 [3 side side]."""
        if self.transform["resize"] == "center_crop":
            height, width = x.shape[1:]
            short = min(height, width)
            top, left = (height - short) // 2, (width - short) // 2
            x = x[:, top : top + short, left : left + short]
        if x.shape[1:] == (side, side):
            return x.contiguous()
        how = self.transform["interpolation"]
        return F.interpolate(x[None], size=(side, side), mode=how, antialias=True)[0]

    def get_embedding_dimension(self):
        """Return the length of a vector."""
        return self.settings["dimensions"]

    @torch.inference_mode()
    def encode_images(self, images):
        """Return unit vectors of pictures, float32 numpy [n d]: without any other library."""
        return self(self.preprocess(images))["sentence_embedding"].numpy()


def unit(x):
    """Return rows in float32 at unit length."""
    x = x.float()
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def opened(image, background):
    """Return a picture as uint8 [h w 3], the right way up, on a background where it lets light
    through."""
    given = image["image"] if isinstance(image, dict) else image
    if isinstance(given, np.ndarray):
        image = Image.fromarray(given)
    else:
        image = given if isinstance(given, Image.Image) else Image.open(given)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"An image of {image.width} x {image.height} pixels is too large.")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # grey of 16 bits
        values = np.rint(np.asarray(image).astype(np.float64) / 257)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(under, image)
    return np.array(image.convert("RGB"))


class Tower(nn.Module):
    """A vision transformer in CLIP's or SigLIP's shape, or between them."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        width, prefix = c["width"], int(c["class_token"])
        self.patch = nn.Conv2d(3, width, c["patch"], c["patch"], bias=c["patch_bias"])
        if prefix:
            self.class_token = nn.Parameter(torch.zeros(width))
        patches = (c["resolution"] // c["patch"]) ** 2
        self.position = nn.Parameter(torch.zeros(prefix + patches, width))
        self.norm_pre = nn.LayerNorm(width, c["norm_eps"]) if c["pre_norm"] else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(width, c["norm_eps"])
        self.pool = AttentionPool(c) if c["pooling"] == "attention" else None

    def forward(self, pixels):
        """Return one raw vector an image."""
        prefix = int(self.config["class_token"])
        x = self.patch(pixels).flatten(2).transpose(1, 2) + self.position[prefix:]
        if prefix:
            first = self.class_token + self.position[0]
            x = torch.cat([first.expand(len(x), 1, -1), x], 1)
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.config["pooling"] == "token":
            return x[:, 0]
        x = x[:, prefix:]
        return x.mean(1) if self.pool is None else self.pool(x)


class Block(nn.Module):
    """Attention, then MLP, each on normed tokens and added to the stream."""

    def __init__(self, c):
        super().__init__()
        self.norm1 = nn.LayerNorm(c["width"], c["norm_eps"])
        self.attention = Attention(c)
        self.norm2 = nn.LayerNorm(c["width"], c["norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x):
        """Return the stream after the block."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Every token gathers from all."""

    def __init__(self, c):
        super().__init__()
        self.heads = c["heads"]
        self.qkv = nn.Linear(c["width"], 3 * c["width"])
        self.out = nn.Linear(c["width"], c["width"])

    def forward(self, x):
        """Return what tokens gather."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two matrices with the activation between them."""

    def __init__(self, c):
        super().__init__()
        hidden = round(c["width"] * c["mlp_ratio"])
        self.kind = c["activation"]
        self.fc1, self.fc2 = nn.Linear(c["width"], hidden), nn.Linear(hidden, c["width"])

    def forward(self, x):
        """Return each token through both."""
        h = self.fc1(x)
        if self.kind == "quick_gelu":
            return self.fc2(h * torch.sigmoid(1.702 * h))
        return self.fc2(F.gelu(h, approximate="none" if self.kind == "gelu" else "tanh"))


class AttentionPool(nn.Module):
    """A learned query that attends to the patches, then an MLP."""

    def __init__(self, c):
        super().__init__()
        width = c["width"]
        self.heads = c["heads"]
        self.query = nn.Parameter(torch.zeros(width))
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, c["norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x):
        """Return one vector an image."""
        q = self.q(self.query).view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        k, v = (m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.k, self.v))
        h = self.out(F.scaled_dot_product_attention(q, k, v).flatten(1))
        return h + self.mlp(self.norm(h))


class Head(nn.Module):
    """What maps the tower's vector into the text space: an MLP, alone or beside a matrix."""

    def __init__(self, c, width, dimensions):
        super().__init__()
        self.config, kind, bias = c, c["kind"], c["bias"]
        self.before = Head(c["before"], width, c["between"]) if c["before"] else None
        inner = c["between"] or width
        hidden = c["hidden"]  # spelled out by the export
        if c["standardise"]:
            self.register_buffer("mean", torch.zeros(inner))
            self.register_buffer("spread", torch.ones(inner))
        if kind != "mlp":
            self.linear = nn.Linear(inner, dimensions, bias=bias)
        if kind == "gated":
            self.gate = nn.Linear(inner, hidden, bias=bias)
            self.value = nn.Linear(inner, hidden, bias=bias)
            self.back = nn.Linear(hidden, dimensions, bias=False)
            return
        layers, wide = [], inner
        for _ in range(c["layers"] - 1):
            layers += [nn.Linear(wide, hidden, bias=bias), nn.GELU()]
            # A place is kept for what was dropped in training: names of weights count layers.
            layers += [nn.Identity()] if c["dropout"] else []
            wide = hidden
        layers.append(nn.Linear(wide, dimensions, bias=bias and kind == "mlp"))
        self.layers = nn.Sequential(*layers)

    def forward(self, h):
        """Return vectors in the text space, raw."""
        kind = self.config["kind"]
        if self.before is not None:
            h = self.before(h)
        if self.config["unit"]:
            h = unit(h)
        if self.config["standardise"]:
            h = (h - self.mean) / self.spread
        if kind == "mlp":
            return self.layers(h)
        normed = F.layer_norm(h, h.shape[-1:], eps=1e-6)
        if kind == "gated":
            return self.linear(h) + self.back(F.silu(self.gate(normed)) * self.value(normed))
        return self.linear(h) + self.layers(normed)
