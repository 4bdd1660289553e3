"""Writes losses.json: values and input gradients of every loss with its main options, in f64.

    OMP_NUM_THREADS=1 python make_losses.py        # made with torch 2.15.0

The gradient is that of the sum of value * cos(0, 1, 2, ...). PyTorch has classes along axis 1; here rows are
[rows, classes], and three axes are flattened to that. The hinge loss is not in PyTorch: its formula stands below.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
G = torch.Generator().manual_seed(5)
ROWS = []


def normal(*shape, scale=1.0):
    return torch.randn(*shape, generator=G) * scale


def whole(high, *shape):
    return torch.randint(0, high, shape, generator=G)


def pack(t):
    kind = "f64" if t.is_floating_point() else "i64"
    data = [str(x) if x in (float("inf"), float("-inf")) else x for x in t.flatten().tolist()]
    return {"shape": list(t.shape), "dtype": kind, "data": data}


def row(loss, options, inputs, function, differentiate=1):
    leaves = [x.clone().requires_grad_() if i < differentiate else x for i, x in enumerate(inputs)]
    value = function(*leaves)
    (value.flatten() * torch.cos(torch.arange(value.numel(), dtype=torch.float64))).sum().backward()
    ROWS.append({
        "loss": loss, "options": options, "inputs": [pack(x) for x in inputs], "value": pack(value.detach()),
        "gradients": [pack(x.grad) for x in leaves[:differentiate]],
    })


REDUCTIONS = ["mean", "sum", "none"]
x, y = normal(4, 3), normal(4, 3)
for reduction in REDUCTIONS:
    named = {"reduction": reduction}
    row("mean_squared", named, [x, y], lambda a, b: F.mse_loss(a, b, reduction=reduction), 2)
    row("mean_absolute", named, [x, y], lambda a, b: F.l1_loss(a, b, reduction=reduction), 2)
    row("huber", {**named, "delta": 0.7}, [x, y], lambda a, b: F.huber_loss(a, b, reduction=reduction, delta=0.7), 2)
    row("smooth_l1", {**named, "beta": 0.5}, [x, y], lambda a, b: F.smooth_l1_loss(a, b, reduction=reduction, beta=0.5), 2)
row("smooth_l1", {"beta": 0.0}, [x, y], lambda a, b: F.smooth_l1_loss(a, b, beta=0.0), 2)

z, c = normal(5, 4, scale=3.0), whole(4, 5)
ignored = c.clone()
ignored[1] = -100
w = torch.tensor([0.5, 2.0, 1.0, 3.0])
p = torch.softmax(normal(5, 4), -1)
p[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
for reduction in REDUCTIONS:
    for smoothing in [0.0, 0.1]:
        for weights in [None, w]:
            options = {"reduction": reduction, "label_smoothing": smoothing, "weights": weights is not None}
            f = lambda a, b, *_: F.cross_entropy(a, b, weight=weights, label_smoothing=smoothing, reduction=reduction)
            row("cross_entropy", {**options, "ignore_index": -100}, [z, ignored, w], f)
            row("cross_entropy", options, [z, p, w], lambda a, b, *_: f(a, b))
    for weights in [None, w]:
        options = {"reduction": reduction, "weights": weights is not None, "ignore_index": -100}
        row("negative_log_likelihood", options, [torch.log_softmax(z, -1), ignored, w],
            lambda a, b, *_: F.nll_loss(a, b, weight=weights, reduction=reduction))
row("cross_entropy", {}, [z.reshape(1, 5, 4), c.reshape(1, 5), w], lambda a, b, *_: F.cross_entropy(a.transpose(1, 2), b))

t, b = torch.rand(4, 3, generator=G), (torch.rand(4, 3, generator=G) > 0.5).double()
pw = torch.tensor([0.5, 2.0, 3.0])
for reduction in REDUCTIONS:
    for target in [t, b]:
        row("binary_cross_entropy", {"reduction": reduction}, [x * 3, target, pw],
            lambda a, b, *_: F.binary_cross_entropy_with_logits(a, b, reduction=reduction))
        row("binary_cross_entropy", {"reduction": reduction, "positive_weight": True}, [x * 3, target, pw],
            lambda a, b, *_: F.binary_cross_entropy_with_logits(a, b, pos_weight=pw, reduction=reduction))
    row("binary_cross_entropy", {"reduction": reduction, "weights": True}, [x * 3, t, pw],
        lambda a, b, *_: F.binary_cross_entropy_with_logits(a, b, weight=pw, reduction=reduction))

for reduction, name in [("mean", "mean"), ("sum", "sum"), ("none", "none"), ("batchmean", "batch_mean")]:
    row("kl", {"reduction": name}, [torch.log_softmax(z, -1), p], lambda a, b: F.kl_div(a, b, reduction=reduction))
    row("kl", {"reduction": name, "log_target": True}, [torch.log_softmax(z, -1), torch.log_softmax(normal(5, 4), -1)],
        lambda a, b: F.kl_div(a, b, reduction=reduction, log_target=True), 2)

signs, row_signs = torch.sign(normal(4, 3)), torch.tensor([1, -1, 1, -1, -1])
a3, p3, n3 = normal(5, 4), normal(5, 4), normal(5, 4)
for reduction in REDUCTIONS:
    reduce = {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction]
    row("hinge", {"reduction": reduction, "margin": 0.8}, [x, signs], lambda a, b: reduce(torch.clamp(0.8 - a * b, min=0)))
    row("multi_margin", {"reduction": reduction}, [z, c, w], lambda a, b, *_: F.multi_margin_loss(a, b, reduction=reduction))
    row("multi_margin", {"reduction": reduction, "squared": True, "margin": 2.0, "weights": True}, [z, c, w],
        lambda a, b, *_: F.multi_margin_loss(a, b, p=2, margin=2.0, weight=w, reduction=reduction))
    row("triplet", {"reduction": reduction}, [a3, p3, n3], lambda a, b, c: F.triplet_margin_loss(a, b, c, reduction=reduction), 3)
    row("triplet", {"reduction": reduction, "swap": True, "margin": 2.0}, [a3, p3, n3],
        lambda a, b, c: F.triplet_margin_loss(a, b, c, margin=2.0, swap=True, reduction=reduction), 3)
    row("cosine", {"reduction": reduction, "margin": 0.1}, [a3, p3, row_signs],
        lambda a, b, c: F.cosine_embedding_loss(a, b, c, margin=0.1, reduction=reduction), 2)

logits = normal(7, 4, 5, scale=2.0)
labels = torch.tensor([[1, 2, 3], [4, 4, 1], [2, 0, 0], [0, 0, 0]])
steps, sizes = torch.tensor([7, 6, 5, 3]), torch.tensor([3, 3, 1, 0])
for reduction in REDUCTIONS:
    row("ctc", {"reduction": reduction}, [logits, labels, steps, sizes],
        lambda z, y, n, m: F.ctc_loss(torch.log_softmax(z, -1), y, n, m, reduction=reduction))
    row("ctc", {"reduction": reduction, "zero_infinity": True}, [logits, labels, torch.tensor([7, 3, 5, 3]), sizes],
        lambda z, y, n, m: F.ctc_loss(torch.log_softmax(z, -1), y, n, m, reduction=reduction, zero_infinity=True))
row("ctc", {"blank": 4}, [logits, torch.tensor([[1, 2, 3], [0, 0, 1], [2, 0, 0], [3, 0, 0]]), steps, torch.tensor([3, 3, 1, 2])],
    lambda z, y, n, m: F.ctc_loss(torch.log_softmax(z, -1), y, n, m, blank=4))

path = pathlib.Path(__file__).with_name("losses.json")
path.write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in ROWS) + "\n]\n")
