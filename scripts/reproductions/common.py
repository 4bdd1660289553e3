"""What PyTorch's sides of the reproductions share: arguments, data, augmentation, schedules, and the training loop.

Each script prints its progress on stderr and one line of JSON on stdout. Nothing here is tuned: sizes, rates and schedules
are those of the recipe of the same name. Needs torch and numpy; made with torch 2.15.
"""
import argparse, glob, gzip, json, math, os, struct, sys, time
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
INSIDE = os.path.join(ROOT, "crates", "chainrule-train", "data")
BEGIN = time.time()


def arguments(description, rows, more=lambda parser: None):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("row", choices=rows)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to PyTorch")
    parser.add_argument("--data", default=os.path.join(ROOT, "data"), help="folder of data sets")
    parser.add_argument("--steps", type=int, help="end after so many steps: to see that it works")
    more(parser)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    return a


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def finish(**result):
    print(json.dumps({**result, "seconds": round(time.time() - BEGIN, 2)}))


# Data

def idx(path):
    opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        data = file.read()
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def mnist(folder, examples=None):
    """Images [n, 1, 28, 28] from 0 to 1 and labels, of training and test; so many of the training part at random."""
    def part(stem):
        found = [glob.glob(os.path.join(folder, "mnist", f"{stem}-{kind}*")) for kind in ("images", "labels")]
        if not all(found):
            sys.exit(f"MNIST is not in {folder}/mnist: run scripts/fetch-mnist.sh")
        x, y = (idx(names[0]) for names in found)
        return torch.from_numpy(x.astype(np.float32) / 255).unsqueeze(1), torch.from_numpy(y.astype(np.int64))
    train, test = part("train"), part("t10k")
    if examples:
        chosen = torch.tensor(sample(len(train[0]), examples))
        train = (train[0][chosen], train[1][chosen])
    return train, test


def digits():
    """The digits that are inside, split as there: a fifth of each class, after a shuffle, is for testing."""
    x = idx(os.path.join(INSIDE, "digits-images.idx.gz")).astype(np.float32) / 16
    y = idx(os.path.join(INSIDE, "digits-labels.idx.gz")).astype(np.int64)
    random, test = SplitMix(1797), []
    for digit in range(10):
        members = random.shuffled(np.flatnonzero(y == digit).tolist())
        test += members[: (len(members) * 2 + 5) // 10]
    test = np.array(sorted(test))
    train = np.setdiff1d(np.arange(len(y)), test)
    pick = lambda at: (torch.from_numpy(x[at]).unsqueeze(1), torch.from_numpy(y[at]))
    return pick(train), pick(test)


def shakespeare():
    """The text that is inside as codes of its characters: nine tenths to train on, the rest for validation."""
    path = glob.glob(os.path.join(INSIDE, "*.txt.gz"))[0]
    text = gzip.open(path, "rt", encoding="utf-8").read()
    letters = sorted(set(text))
    code = {c: i for i, c in enumerate(letters)}
    tokens = torch.tensor([code[c] for c in text])
    cut = len(tokens) * 9 // 10
    return tokens[:cut], tokens[cut:], len(letters)


class SplitMix:
    """SplitMix64, which draws the parts of the data on both sides."""
    MASK = (1 << 64) - 1

    def __init__(self, state):
        self.state = state

    @staticmethod
    def of(*numbers):
        state = 0x243F6A8885A308D3
        for number in numbers:
            state = SplitMix(state ^ (number * 0xD1342543DE82EF95 & SplitMix.MASK)).next()
        return SplitMix(state)

    def next(self):
        self.state = self.state + 0x9E3779B97F4A7C15 & self.MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & self.MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & self.MASK
        return z ^ z >> 31

    def shuffled(self, values):
        values = list(values)
        for last in range(len(values) - 1, 0, -1):
            other = self.next() * (last + 1) >> 64
            values[last], values[other] = values[other], values[last]
        return values


def sample(count, wanted, seed=0):
    """So many of the numbers below `count`, as `examples` of [data] draws them."""
    return sorted(SplitMix.of(seed, 0x73616D70).shuffled(range(count))[:wanted])


def without_validation(part, fraction=0.1, seed=0):
    """A training part without what `validation` of [data] keeps back."""
    count = len(part[0])
    order = SplitMix.of(seed, 0x73706C69).shuffled(range(count))
    kept = torch.tensor(sorted(order[: count - max(round(count * fraction), 1)]))
    return part[0][kept], part[1][kept]


def shifted(x, padding=2):
    """Each image shifted by up to `padding`: zeros around it, then a random cut of its old size."""
    n, c, h, w = x.shape
    wide = F.pad(x, (padding,) * 4)
    at = torch.randint(0, 2 * padding + 1, (2, n))
    rows = at[0][:, None] + torch.arange(h)
    columns = at[1][:, None] + torch.arange(w)
    return wide[torch.arange(n)[:, None, None, None], torch.arange(c)[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


# Schedules: the rate of step t of n, as the recipes have them.

def constant(peak):
    return lambda t, n: peak


def cosine(peak, floor=0.0, warm_up=0):
    def rate(t, n):
        if t < warm_up:
            return peak * (t + 1) / warm_up
        return floor + (peak - floor) * (1 + math.cos(math.pi * min((t - warm_up) / (n - warm_up), 1))) / 2
    return rate


def one_cycle(peak, rise=0.3, divide=25.0, last_divide=1e4):
    half = lambda part, a, b: b + (a - b) * (1 + math.cos(math.pi * min(part, 1))) / 2
    def rate(t, n):
        top, end = rise * n - 1, n - 1
        first = peak / divide
        return half(t / top, first, peak) if t <= top else half((t - top) / (end - top), peak, first / last_divide)
    return rate


def milestones(peak, at, gamma=0.1):
    return lambda t, n: peak * gamma ** sum(t >= step for step in at)


def adamw(model, rate, decay=0.01, betas=(0.9, 0.999)):
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, rate, betas)


def kaiming(model, start=lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")):
    """First values as `init` of [model] gives them: weights of two axes and more by the rule, biases 0."""
    for name, p in model.named_parameters():
        if p.dim() > 1:
            start(p)
        elif "bias" in name:
            nn.init.zeros_(p)
    return model


# The loop

def batches(count, batch, epochs):
    """Places of each step: a new order each epoch, the rest that makes no batch left out."""
    for _ in range(epochs):
        order = torch.randperm(count)
        for at in range(0, count - batch + 1, batch):
            yield order[at : at + batch]


def fit(model, optimizer, rate, draw, loss_of, clip=None, total=None, show=None, every=None):
    """Takes the steps that `draw` gives batches for; returns the losses. Stops where the loss is no number."""
    losses = []
    model.train()
    for t, batch in enumerate(draw):
        for group in optimizer.param_groups:
            group["lr"] = rate(t, total)
        loss = loss_of(model, *batch)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        if every and (t + 1) % every == 0:
            say(f"step {t + 1} of {total}: loss {np.mean(losses[-every:]):.4f}", show() if show else "")
            model.train()
    return losses


@torch.no_grad()
def accuracy(model, test, batch=500):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(test[0].split(batch), test[1].split(batch)))
    return right / len(test[1])
