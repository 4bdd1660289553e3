"""Classifiers of images in PyTorch: the recipes of the same names.

    python scripts/reproductions/images.py mnist-cnn [--seed 0] [--precision bf16] [--rate 0.1]
"""
from common import *


def convolution(inputs, outputs, kernel=3, stride=1, padding=1, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)


def unit(inputs, outputs, stride=1):
    return [convolution(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU()]


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Block(nn.Module):
    """ResNet's basic block, or with norms first the pre-activation block."""

    def __init__(self, inputs, outputs, stride, first):
        super().__init__()
        self.first, change = first, inputs != outputs or stride != 1
        self.conv1, self.conv2 = convolution(inputs, outputs, stride=stride), convolution(outputs, outputs)
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs if first else outputs), nn.BatchNorm2d(outputs)
        self.shortcut = convolution(inputs, outputs, 1, stride, 0) if change else None
        self.norm = nn.BatchNorm2d(outputs) if change and not first else None

    def forward(self, x):
        if self.first:
            a = F.relu(self.norm1(x))
            y = self.conv2(F.relu(self.norm2(self.conv1(a))))
            return y + (self.shortcut(a) if self.shortcut else x)
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (self.norm(self.shortcut(x)) if self.shortcut else x))


class Squash(nn.Module):
    def forward(self, x):
        return 1.7159 * torch.tanh(0.6666667 * x)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.of = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):
        return self.of(x, x, x, need_weights=False)[0]


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.of = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.of(x)


class Vit(nn.Module):
    def __init__(self, width=64, patch=4, heads=4, depth=4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn((28 // patch) ** 2, width))
        block = lambda: [
            Residual(nn.LayerNorm(width), Attention(width, heads)),
            Residual(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)),
        ]
        self.blocks = nn.Sequential(*(layer for _ in range(depth) for layer in block()), nn.LayerNorm(width))
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.out(self.blocks(x).mean(1))


def mlp():
    hidden = lambda inputs: [nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), *hidden(784), *hidden(512), nn.Linear(512, 10))


def small_cnn():
    pool = lambda: nn.MaxPool2d(2)
    return nn.Sequential(*unit(1, 16), pool(), *unit(16, 32), pool(), *unit(32, 64), pool(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(576, 10))


def digits_cnn():
    return nn.Sequential(*unit(1, 32), *unit(32, 64), nn.MaxPool2d(2), *unit(64, 128), Pooled(), nn.Dropout(0.2), nn.Linear(128, 10))


def lenet5():
    pool = lambda: [nn.AvgPool2d(2), Squash()]
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), *pool(), nn.Conv2d(6, 16, 5), *pool(), nn.Conv2d(16, 120, 5), Squash(),
        nn.Flatten(), nn.Linear(120, 84), Squash(), nn.Linear(84, 10))


def stages(widths, blocks, make):
    layers = []
    for inputs, outputs in zip([widths[0], *widths], widths):
        layers += [make(inputs if n == 0 else outputs, outputs, 2 if n == 0 and inputs != outputs else 1) for n in range(blocks)]
    return layers


def resnet():
    blocks = stages([16, 32, 64], 3, lambda i, o, s: Block(i, o, s, first=True))
    return kaiming(nn.Sequential(convolution(1, 16), *blocks, nn.BatchNorm2d(64), nn.ReLU(), Pooled(), nn.Linear(64, 10)))


def deep(depth, residual):
    pair = lambda i, o, s: Block(i, o, s, first=False) if residual else nn.Sequential(*unit(i, o, s), *unit(o, o))
    layers = stages([8, 16, 32], (depth - 2) // 6, pair)
    return kaiming(nn.Sequential(*unit(1, 8, 2), *layers, Pooled(), nn.Linear(32, 10)))


def sigmoids(norm):
    hidden = lambda i: [nn.Linear(i, 100, bias=not norm), *([nn.BatchNorm1d(100)] if norm else []), nn.Sigmoid()]
    layers = [layer for n in range(8) for layer in hidden(64 if n == 0 else 100)]
    return kaiming(nn.Sequential(nn.Flatten(), *layers, nn.Linear(100, 10)), nn.init.xavier_normal_)


# row: (network, data, validation kept back, shifts, optimizer, peak rate, schedule, epochs, batch, label smoothing, clip)
AW, SGD = "adamw", "sgd"
ROWS = {
    "mnist-mlp": (mlp, "mnist", True, False, (AW, 0.01), 1e-3, cosine, 10, 128, 0.0, None),
    "mnist-cnn": (small_cnn, "mnist", True, True, (AW, 0.01), 5e-3, one_cycle, 6, 128, 0.0, None),
    "lenet5": (lenet5, "mnist", False, True, (AW, 0.01), 2e-3, one_cycle, 12, 64, 0.0, None),
    "resnet": (resnet, "mnist", False, True, (SGD, 1e-4), 0.1, one_cycle, 10, 128, 0.0, None),
    "plain-20": (lambda: deep(20, False), 5000, False, False, (SGD, 1e-4), 0.1, "steps", 30, 128, 0.0, None),
    "plain-56": (lambda: deep(56, False), 5000, False, False, (SGD, 1e-4), 0.1, "steps", 30, 128, 0.0, None),
    "resnet-56": (lambda: deep(56, True), 5000, False, False, (SGD, 1e-4), 0.1, "steps", 30, 128, 0.0, None),
    "vit-mnist": (Vit, "mnist", False, True, (AW, 0.05), 2e-3, "warm", 12, 128, 0.0, 1.0),
    "digits-cnn": (digits_cnn, "digits", True, False, (AW, 0.01), 2e-3, one_cycle, 30, 32, 0.05, None),
    "no-norm-deep": (lambda: sigmoids(False), "digits", False, False, (SGD, 0.0), 0.1, constant, 30, 32, 0.0, None),
    "batch-norm-deep": (lambda: sigmoids(True), "digits", False, False, (SGD, 0.0), 0.1, constant, 30, 32, 0.0, None),
}


def more(parser):
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rate", type=float, help="in place of the recipe's")


def main():
    a = arguments(__doc__, list(ROWS), more)
    network, data, held, shifts, (kind, decay), peak, schedule, epochs, batch, smoothing, clip = ROWS[a.row]
    peak = a.rate or peak
    train, test = digits() if data == "digits" else mnist(a.data, data if isinstance(data, int) else None)
    train = without_validation(train) if held else train
    model = network()
    if kind == AW:
        optimizer = adamw(model, peak, decay)
    else:
        momentum = 0.0 if schedule is constant else 0.9
        optimizer = torch.optim.SGD(model.parameters(), peak, momentum, weight_decay=decay)
    schedule = {"steps": lambda peak: milestones(peak, [585, 975]), "warm": lambda peak: cosine(peak, warm_up=400)}.get(schedule, schedule)
    each = len(train[0]) // batch
    total = each * epochs
    places = batches(len(train[0]), batch, epochs)
    draw = ((shifted(train[0][at]) if shifts else train[0][at], train[1][at]) for at in places)
    if a.steps:
        draw = (pair for pair, _ in zip(draw, range(a.steps)))

    def loss_of(model, x, y):
        with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
            logits = model(x)
        return F.cross_entropy(logits.float(), y, label_smoothing=smoothing)

    losses = fit(model, optimizer, schedule(peak), draw, loss_of, clip, total, every=each)
    curve = [round(float(np.mean(losses[at : at + each])), 5) for at in range(0, len(losses), each)]
    with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
        right = accuracy(model, test)
    finish(accuracy=right, train_loss=curve[-1], curve=curve, steps=len(losses))


main()
