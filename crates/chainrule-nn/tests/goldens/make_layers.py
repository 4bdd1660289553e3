"""Writes layers.json: outputs, input gradients, parameter gradients and running statistics of every layer in f64.

Made with Python 3 and PyTorch 2.15 (CPU, float64): python3 make_layers.py. The loss of a case is the sum of its
outputs, each times a fixed random weight. Parameters and inputs are drawn anew and rounded, so that the file is short
and does not depend on a first value; attributes say how the layer is built on the other side. "cut" marks layers that
stop a gradient on purpose, which finite differences do not know.
"""
import json
import math
import os

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(20)
cases = []


def draw(*shape, spread=1.0):
    values = torch.randn(*shape, generator=generator) * spread
    return torch.round(values * 100) / 100


def distinct(*shape):
    """Numbers that all differ, in a mixed order: no ties for the largest."""
    count = math.prod(shape)
    return (torch.randperm(count, generator=generator).double() * 0.1 - count * 0.05).round(decimals=2).reshape(shape)


def number(value):
    return int(value) if value == int(value) and abs(value) < 1e9 else float(f"{value:.13g}")


def dump(t):
    kind = {torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}[t.dtype]
    entry = {"shape": list(t.shape), "data": [number(v) for v in t.detach().double().flatten().tolist()]}
    return entry if kind == "f64" else {"dtype": kind, **entry}


def renamed(module, entries, rename):
    """(our path, tensor) of each named tensor; rename gives None to leave one out, or a list of (path, part)."""
    result = {}
    for name, tensor in entries:
        for path, part in rename(module, name, tensor):
            result[path] = dump(part)
    return result


def same(module, name, tensor):
    return [(name, tensor)]


def case(name, layer, module, inputs, attrs=None, call=None, rename=same, training=False, other=None, spread=0.5):
    """inputs: floats get gradients. other: inputs without (integers, masks)."""
    module = module or nn.Module()
    for p in module.parameters():
        p.data = draw(*p.shape, spread=spread)
    for path, b in module.named_buffers():
        if b.dtype == torch.float64:
            b.data = draw(*b.shape).abs() + 0.3 if "var" in path else draw(*b.shape)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        module.weight.data[module.padding_idx] = 0
    module.train(training)
    entry = {"name": name, "layer": layer, "attrs": attrs or {}, "training": training}
    buffers = [(n, b.clone()) for n, b in module.named_buffers()]
    leaves = [x.clone().requires_grad_(x.dtype == torch.float64) for x in inputs]
    outputs = (call or (lambda m, *x: m(*x)))(module, *leaves)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    weights = [draw(*y.shape) for y in outputs]
    sum((w * y).sum() for w, y in zip(weights, outputs)).backward()
    zeros = lambda p: torch.zeros_like(p) if p.grad is None else p.grad
    entry["inputs"] = [dump(x) for x in leaves]
    entry["parameters"] = renamed(module, module.named_parameters(), rename)
    entry["state"] = renamed(module, buffers, rename)
    entry["weights"] = [dump(w) for w in weights]
    entry["outputs"] = [dump(y) for y in outputs]
    entry["input_gradients"] = [dump(zeros(x)) if x.requires_grad else None for x in leaves]
    entry["parameter_gradients"] = renamed(module, [(n, zeros(p)) for n, p in module.named_parameters()], rename)
    entry["state_after"] = renamed(module, module.named_buffers(), rename)
    cases.append(entry)


def ints(rows):
    return torch.tensor(rows, dtype=torch.int64)


# Products of matrices, embedding.
case("linear", "linear", nn.Linear(3, 4), [draw(2, 3)], {"inputs": 3, "outputs": 4})
case("linear of three axes without bias", "linear", nn.Linear(3, 2, bias=False), [draw(2, 2, 3)],
     {"inputs": 3, "outputs": 2, "bias": False})
case("bilinear", "bilinear", nn.Bilinear(3, 4, 2), [draw(5, 3), draw(5, 4)], {"sizes": [3, 4, 2]})
case("bilinear without bias", "bilinear", nn.Bilinear(2, 3, 2, bias=False), [draw(2, 2, 2), draw(2, 2, 3)],
     {"sizes": [2, 3, 2], "bias": False})
case("embedding", "embedding", nn.Embedding(6, 3), [ints([[0, 5, 2], [2, 2, 1]])], {"sizes": [6, 3]})
case("embedding with padding", "embedding", nn.Embedding(6, 3, padding_idx=2), [ints([[0, 5, 2], [2, 2, 1]])],
     {"sizes": [6, 3], "padding": 2, "cut": True})

# Convolutions.
for name, make, shape, attrs in [
    ("1-D", nn.Conv1d, (2, 2, 7), dict(channels=[2, 3], kernel=[3])),
    ("1-D strided, padded, dilated", nn.Conv1d, (2, 2, 9), dict(channels=[2, 3], kernel=[3], stride=2, padding=2, dilation=2)),
    ("2-D", nn.Conv2d, (2, 2, 4, 5), dict(channels=[2, 3], kernel=[3, 2])),
    ("2-D strided and padded without bias", nn.Conv2d, (1, 2, 5, 6),
     dict(channels=[2, 2], kernel=[3, 3], stride=[2, 1], padding=[1, 0], bias=False)),
    ("2-D in groups", nn.Conv2d, (1, 4, 4, 4), dict(channels=[4, 6], kernel=[2, 2], groups=2)),
    ("2-D depthwise", nn.Conv2d, (1, 3, 4, 4), dict(channels=[3, 3], kernel=[3, 3], padding=1, groups=3)),
    ("2-D same", nn.Conv2d, (1, 2, 4, 5), dict(channels=[2, 2], kernel=[4, 3], padding="same", dilation=[1, 2])),
    ("3-D", nn.Conv3d, (1, 2, 3, 4, 3), dict(channels=[2, 2], kernel=[2, 3, 2], stride=[1, 2, 1], padding=[0, 1, 1])),
]:
    options = {k: (tuple(v) if isinstance(v, list) else v) for k, v in attrs.items() if k not in ("channels", "kernel")}
    case(f"conv {name}", "conv", make(*attrs["channels"], tuple(attrs["kernel"]), **options), [draw(*shape)], attrs)
for name, make, shape, attrs in [
    ("1-D", nn.ConvTranspose1d, (2, 2, 4), dict(channels=[2, 3], kernel=[3])),
    ("1-D strided, padded, dilated", nn.ConvTranspose1d, (1, 2, 4),
     dict(channels=[2, 3], kernel=[3], stride=2, padding=1, dilation=2, output_padding=1)),
    ("2-D with output padding", nn.ConvTranspose2d, (1, 2, 3, 3),
     dict(channels=[2, 3], kernel=[3, 2], stride=[2, 3], padding=[1, 0], output_padding=[1, 2])),
    ("2-D in groups without bias", nn.ConvTranspose2d, (1, 4, 2, 3),
     dict(channels=[4, 6], kernel=[2, 2], stride=2, groups=2, bias=False)),
    ("3-D", nn.ConvTranspose3d, (1, 2, 2, 2, 2), dict(channels=[2, 1], kernel=[2, 2, 2], stride=2)),
]:
    options = {k: (tuple(v) if isinstance(v, list) else v) for k, v in attrs.items() if k not in ("channels", "kernel")}
    case(f"conv transpose {name}", "conv_transpose", make(*attrs["channels"], tuple(attrs["kernel"]), **options),
         [draw(*shape)], attrs)

# Pooling.
for name, make, shape, attrs in [
    ("1-D", nn.MaxPool1d, (2, 2, 7), dict(window=[3])),
    ("1-D padded, dilated", nn.MaxPool1d, (1, 2, 8), dict(window=[3], stride=1, padding=1, dilation=2)),
    ("2-D", nn.MaxPool2d, (1, 2, 5, 6), dict(window=[3, 2], stride=2, padding=[1, 0])),
    ("2-D ceil", nn.MaxPool2d, (1, 2, 6, 5), dict(window=[3, 3], stride=2, ceil=True)),
    ("2-D ceil padded", nn.MaxPool2d, (1, 1, 7, 6), dict(window=[2, 3], stride=3, padding=1, ceil=True)),
    ("3-D", nn.MaxPool3d, (1, 1, 4, 4, 3), dict(window=[2, 2, 2], stride=[2, 2, 1])),
]:
    options = {("ceil_mode" if k == "ceil" else k): (tuple(v) if isinstance(v, list) and len(v) > 1 else v)
               for k, v in attrs.items() if k != "window"}
    window = attrs["window"][0] if len(attrs["window"]) == 1 else tuple(attrs["window"])
    case(f"max pool {name}", "pool", make(window, **options), [distinct(*shape)], dict(attrs, kind="max"))
for name, make, shape, attrs in [
    ("1-D", nn.AvgPool1d, (2, 2, 7), dict(window=[3], stride=2)),
    ("2-D padded", nn.AvgPool2d, (1, 2, 5, 6), dict(window=[3, 2], stride=2, padding=[1, 1])),
    ("2-D without padding", nn.AvgPool2d, (1, 2, 5, 6), dict(window=[3, 2], stride=2, padding=1, without_padding=True)),
    ("2-D ceil", nn.AvgPool2d, (1, 2, 6, 5), dict(window=[3, 3], stride=2, padding=1, ceil=True)),
    ("2-D ceil without padding", nn.AvgPool2d, (1, 1, 6, 7),
     dict(window=[2, 3], stride=3, padding=1, ceil=True, without_padding=True)),
    ("3-D", nn.AvgPool3d, (1, 1, 4, 2, 3), dict(window=[2, 2, 2], stride=[2, 2, 1])),
]:
    options = {{"ceil": "ceil_mode", "without_padding": "count_include_pad"}.get(k, k):
               (not v if k == "without_padding" else tuple(v) if isinstance(v, list) else v)
               for k, v in attrs.items() if k != "window"}
    window = attrs["window"][0] if len(attrs["window"]) == 1 else tuple(attrs["window"])
    case(f"average pool {name}", "pool", make(window, **options), [draw(*shape)], dict(attrs, kind="average"))
for name, kind, module, x, sizes in [
    ("average 1-D", "average", nn.AdaptiveAvgPool1d(3), draw(1, 2, 7), [3]),
    ("average 2-D", "average", nn.AdaptiveAvgPool2d((2, 3)), draw(1, 2, 4, 5), [2, 3]),
    ("average 2-D up", "average", nn.AdaptiveAvgPool2d((3, 5)), draw(1, 1, 2, 3), [3, 5]),
    ("average 3-D", "average", nn.AdaptiveAvgPool3d((1, 2, 2)), draw(1, 1, 2, 3, 4), [1, 2, 2]),
    ("max 1-D", "max", nn.AdaptiveMaxPool1d(3), distinct(1, 2, 7), [3]),
    ("max 2-D", "max", nn.AdaptiveMaxPool2d((2, 3)), distinct(1, 2, 4, 5), [2, 3]),
]:
    case(f"adaptive {name}", "adaptive", module, [x], {"kind": kind, "sizes": sizes})
case("global average", "global", None, [draw(2, 3, 2, 2)], {"kind": "average"}, lambda m, x: x.mean((2, 3)))
case("global max", "global", None, [distinct(2, 3, 4)], {"kind": "max"}, lambda m, x: x.amax(2))

# Normalisation.
for name, make, shape, options, attrs in [
    ("of rows", nn.BatchNorm1d, (5, 3), {}, {}),
    ("1-D", nn.BatchNorm1d, (3, 2, 4), dict(momentum=0.3, eps=1e-3), dict(momentum=0.3, epsilon=1e-3)),
    ("2-D", nn.BatchNorm2d, (2, 2, 2, 3), {}, {}),
    ("2-D cumulative", nn.BatchNorm2d, (2, 2, 2, 3), dict(momentum=None), dict(cumulative=True)),
    ("2-D without affine", nn.BatchNorm2d, (2, 2, 2, 2), dict(affine=False), dict(affine=False)),
    ("3-D", nn.BatchNorm3d, (2, 2, 2, 1, 3), {}, {}),
]:
    for training in (True, False):
        case(f"batch norm {name} {'training' if training else 'evaluation'}", "batch_norm", make(shape[1], **options),
             [draw(*shape)], dict(attrs, channels=shape[1]), training=training)
case("layer norm", "layer_norm", nn.LayerNorm(4), [draw(2, 3, 4)], {"shape": [4]})
case("layer norm of two axes", "layer_norm", nn.LayerNorm((2, 3), eps=1e-2), [draw(2, 2, 3)],
     {"shape": [2, 3], "epsilon": 1e-2})
case("layer norm without bias", "layer_norm", nn.LayerNorm(4, bias=False), [draw(3, 4)], {"shape": [4], "bias": False})
case("layer norm without affine", "layer_norm", nn.LayerNorm(4, elementwise_affine=False), [draw(3, 4)],
     {"shape": [4], "affine": False})
case("rms norm", "rms_norm", nn.RMSNorm(4), [draw(2, 3, 4)], {"shape": [4]})
case("rms norm of two axes", "rms_norm", nn.RMSNorm((2, 3), eps=1e-2), [draw(2, 2, 3)],
     {"shape": [2, 3], "epsilon": 1e-2})
case("rms norm without affine", "rms_norm", nn.RMSNorm(4, elementwise_affine=False), [draw(3, 4)],
     {"shape": [4], "affine": False})
case("group norm", "group_norm", nn.GroupNorm(2, 4), [draw(2, 4, 3)], {"groups": 2, "channels": 4})
case("group norm 2-D", "group_norm", nn.GroupNorm(3, 6, eps=1e-2), [draw(1, 6, 2, 2)],
     {"groups": 3, "channels": 6, "epsilon": 1e-2})
case("group norm without affine", "group_norm", nn.GroupNorm(1, 4, affine=False), [draw(2, 4)],
     {"groups": 1, "channels": 4, "affine": False})
case("instance norm", "instance_norm", nn.InstanceNorm1d(2), [draw(2, 2, 4)], {"channels": 2})
case("instance norm 2-D affine", "instance_norm", nn.InstanceNorm2d(3, affine=True, eps=1e-3), [draw(2, 3, 2, 2)],
     {"channels": 3, "affine": True, "epsilon": 1e-3})

# Recurrent networks.
def recurrent_names(module, name, tensor):
    kind, layer, *reverse = name.removeprefix("weight_").removeprefix("bias_").split("_")
    path = f"layers.{layer[1:]}.{'backward' if reverse else 'forward'}.{name.split('_')[0]}_{kind}"
    return [(path, tensor)]


def recurrent(name, kind, make, batch=2, steps=4, inputs=2, hidden=3, lengths=None, initial=False, **options):
    module = make(inputs, hidden, batch_first=True, **options)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    x = [draw(batch, steps, inputs)]
    if initial:
        x += [draw(count, batch, hidden) for _ in range(2 if kind == "lstm" else 1)]
    if lengths:
        x += [ints(lengths)]

    def call(m, x, *rest):
        state = (rest[0] if kind != "lstm" else (rest[0], rest[1])) if initial else None
        packed = nn.utils.rnn.pack_padded_sequence(x, rest[-1], batch_first=True, enforce_sorted=False) if lengths else x
        y, last = m(packed, state)
        if lengths:
            y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=steps)
        return [y, *(last if kind == "lstm" else [last])]

    attrs = dict(inputs=inputs, hidden=hidden, layers=options.get("num_layers", 1), initial=initial,
                 bidirectional=bool(options.get("bidirectional")), lengths=bool(lengths), bias=options.get("bias", True),
                 relu=options.get("nonlinearity") == "relu")
    case(name, kind, module, x, attrs, call, recurrent_names)


for kind, make in [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)]:
    recurrent(kind, kind, make)
    recurrent(f"{kind} from a state without bias", kind, make, initial=True, bias=False)
    recurrent(f"{kind} of two layers both ways with lengths", kind, make, batch=3, steps=5, num_layers=2,
              bidirectional=True, lengths=[3, 5, 1], initial=True)
recurrent("rnn with a rectifier", "rnn", nn.RNN, nonlinearity="relu", num_layers=2)
recurrent("lstm with lengths", "lstm", nn.LSTM, steps=5, lengths=[2, 5])

# Attention.
def attention_names(module, name, tensor):
    names = ["query", "key", "value"]
    if name.startswith("in_proj_"):
        parts = tensor.chunk(3)
        return [(f"{n}.{name.removeprefix('in_proj_')}", part) for n, part in zip(names, parts)]
    if "_proj_weight" in name:
        return [(f"{names['qkv'.index(name[0])]}.weight", tensor)]
    return [(name.replace("out_proj", "output"), tensor)]


def mha(name, x, attrs, mask=None, size=4, **options):
    """x: query, memory (left out for self-attention), then our mask if it is an input."""
    module = nn.MultiheadAttention(size, 2, batch_first=True, **options)
    attrs = dict(attrs, size=size, heads=2, inputs=len(x))

    def call(m, *x):
        memory = x[1] if attrs.get("memory") else x[0]
        given = mask(*x) if mask else {}
        return m(x[0], memory, memory, need_weights=False, **given)[0]

    case(name, "attention", module, x, attrs, call, attention_names)


def causal(*x):
    return {"attn_mask": torch.ones(x[0].shape[1], x[0].shape[1], dtype=torch.bool).triu(1)}


mha("self-attention", [draw(2, 3, 4)], {})
mha("self-attention without bias", [draw(2, 3, 4)], {"bias": False}, bias=False)
mha("causal self-attention", [draw(2, 3, 4)], {"causal": True}, causal)
mha("cross-attention over another size", [draw(2, 2, 4), draw(2, 3, 5)], {"memory": 5}, kdim=5, vdim=5)
keep = torch.tensor([[True, True, False, True], [True, False, False, False]])
mha("cross-attention with a boolean mask", [draw(2, 2, 4), draw(2, 4, 4), keep[:, None, None, :]],
    {"memory": 4, "mask": True}, lambda *x: {"key_padding_mask": ~x[2][:, 0, 0, :]})
mha("self-attention with an additive mask", [draw(2, 3, 4), draw(3, 3)], {"mask": True}, lambda *x: {"attn_mask": x[1]})


def rotate(x, base, interleaved):
    """x: [N, heads, T, d]."""
    d = x.shape[-1]
    angle = torch.arange(x.shape[2])[:, None] * base ** (-2.0 * torch.arange(d // 2) / d)
    if interleaved:
        turned = torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2).contiguous())
        return torch.view_as_real(turned * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    both = torch.cat([angle, angle], -1)
    a, b = x.chunk(2, -1)
    return x * both.cos() + torch.cat([-b, a], -1) * both.sin()


class Grouped(nn.Module):
    """Causal self-attention with rotations and fewer key heads, as Llama's."""

    def __init__(self, size, heads, key_heads, base, interleaved):
        super().__init__()
        self.heads, self.key_heads, self.base, self.interleaved = heads, key_heads, base, interleaved
        width = size // heads * key_heads
        self.query, self.key = nn.Linear(size, size), nn.Linear(size, width)
        self.value, self.output = nn.Linear(size, width), nn.Linear(size, size)

    def forward(self, x):
        cut = lambda y, heads: y.reshape(*x.shape[:2], heads, -1).transpose(1, 2)
        turn = lambda y: rotate(y, self.base, self.interleaved)
        q, k = turn(cut(self.query(x), self.heads)), turn(cut(self.key(x), self.key_heads))
        v = cut(self.value(x), self.key_heads)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.output(y.transpose(1, 2).reshape(x.shape))


for interleaved in (False, True):
    case(f"grouped rotary attention{' of neighbours' * interleaved}", "attention", Grouped(16, 4, 2, 100.0, interleaved),
         [draw(1, 3, 16)], dict(size=16, heads=4, key_heads=2, causal=True, base=100.0, interleaved=interleaved, inputs=1))


def block_names(module, name, tensor):
    for theirs, ours in [("self_attn", "attention"), ("multihead_attn", "cross_attention")]:
        if name.startswith(theirs):
            rest = attention_names(module, name.removeprefix(theirs + "."), tensor)
            return [(f"{ours}.{n}", part) for n, part in rest]
    norms = ["attention_norm", "cross_attention_norm", "feed_forward_norm"]
    if "decoder" not in type(module).__name__.lower():
        norms.pop(1)
    head, rest = name.split(".", 1)
    ours = {"linear1": "feed_forward.up", "linear2": "feed_forward.down"}
    ours.update({f"norm{i + 1}": n for i, n in enumerate(norms)})
    return [(f"{ours[head]}.{rest}", tensor)]


def block(name, kind, x, attrs, call, **options):
    make = nn.TransformerEncoderLayer if kind == "encoder" else nn.TransformerDecoderLayer
    module = make(4, 2, 6, batch_first=True, **options)
    attrs = dict(attrs, size=4, heads=2, hidden=6, pre_norm=options.get("norm_first", False),
                 gelu=options.get("activation") == "gelu", epsilon=options.get("layer_norm_eps", 1e-5))
    # Training without dropout: the evaluation of the encoder has another, fused path.
    case(name, kind, module, x, attrs, call, block_names, training=True)


def masked(m, x, *rest):
    return m(x, src_mask=causal(x)["attn_mask"])


block("encoder block", "encoder", [draw(2, 3, 4)], {}, lambda m, x: m(x), dropout=0.0)
block("encoder block with norms before", "encoder", [draw(2, 3, 4)], {"causal": True}, masked, dropout=0.0,
      norm_first=True, activation="gelu", layer_norm_eps=1e-3)
for first in (False, True):
    block(f"decoder block{' with norms before' * first}", "decoder", [draw(2, 3, 4), draw(2, 2, 4)], {},
          lambda m, x, memory: m(x, memory, tgt_mask=causal(x)["attn_mask"]), dropout=0.0, norm_first=first)


class Learned(nn.Module):
    def __init__(self, count, size):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, size))

    def forward(self, x):
        return x + self.weight[:x.shape[1]]


def sinusoidal(m, x):
    steps, size = x.shape[1:]
    angle = torch.arange(steps)[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    return x + torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


case("learned positions", "learned_positions", Learned(5, 2), [draw(2, 3, 2)], {"sizes": [5, 2]})
case("sinusoidal positions", "sinusoidal", None, [draw(1, 7, 6)], {}, sinusoidal)

# Blocks for images.
class Residual(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        conv = lambda i, o, k, s: nn.Conv2d(i, o, k, s, k // 2, bias=False)
        self.conv1, self.norm1 = conv(a, b, 3, stride), nn.BatchNorm2d(b)
        self.conv2, self.norm2 = conv(b, b, 3, 1), nn.BatchNorm2d(b)
        if a != b or stride != 1:
            self.shortcut = nn.ModuleDict({"conv": conv(a, b, 1, stride), "norm": nn.BatchNorm2d(b)})

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        straight = self.shortcut["norm"](self.shortcut["conv"](x)) if hasattr(self, "shortcut") else x
        return (y + straight).relu()


class PreActivation(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        conv = lambda i, o, k, s: nn.Conv2d(i, o, k, s, k // 2, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(a), conv(a, b, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(b), conv(b, b, 3, 1)
        if a != b or stride != 1:
            self.shortcut = conv(a, b, 1, stride)

    def forward(self, x):
        a = self.norm1(x).relu()
        y = self.conv2(self.norm2(self.conv1(a)).relu())
        return y + (self.shortcut(a) if hasattr(self, "shortcut") else x)


for name, layer, make in [("residual block", "residual", Residual), ("pre-activation block", "pre_activation", PreActivation)]:
    for sizes in [(2, 2, 1), (2, 3, 2)]:
        for training in (True, False):
            case(f"{name} {sizes} {'training' if training else 'evaluation'}", layer, make(*sizes), [draw(2, 2, 4, 4)],
                 {"sizes": list(sizes)}, training=training)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduced):
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, reduced), nn.Linear(reduced, channels)

    def forward(self, x):
        return x * self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


case("squeeze and excite", "squeeze_excite", SqueezeExcite(4, 3), [draw(2, 4, 2, 3)], {"sizes": [4, 3]})
case("patches", "patches", nn.ModuleDict({"projection": nn.Conv2d(2, 3, 2, 2)}), [draw(1, 2, 5, 4)], {},
     lambda m, x: m["projection"](x).flatten(2).transpose(1, 2))

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "layers.json")
with open(path, "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "cases,", os.path.getsize(path), "bytes")
