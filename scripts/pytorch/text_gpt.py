"""The recipe text-gpt in PyTorch: the loss curve that ours is held against.

    python scripts/pytorch/text_gpt.py [--seed 0] [--threads 2]

nanoGPT's CPU configuration: 4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 iterations, no biases, no dropout,
head tied to the embedding, N(0, 0.02) (residual projections / sqrt(2 layers)); AdamW, betas 0.9 and 0.99, weight decay
0.1 on matrices, rate 1e-3 with 100 steps of warm-up, then half a cosine to 1e-4, gradients clipped to norm 1. The text
is the one in this repository, its last tenth for validation. Prints a JSON line every 200 iterations: the mean loss of
the last 50 training batches and the mean loss over the whole validation part in windows one after the other.
Needs torch and numpy; made with torch 2.15.
"""
import argparse, glob, gzip, json, math, os, time
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS, WARM_UP, PEAK, FLOOR = 4, 4, 128, 64, 12, 2000, 100, 1e-3, 1e-4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (p.view(b, t, HEADS, d // HEADS).transpose(1, 2) for p in self.qkv(self.norm1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, x):
        h = self.token(x) + self.position.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.token.weight)


def rate(step):
    if step < WARM_UP:
        return PEAK * (step + 1) / WARM_UP
    way = min((step - WARM_UP) / (STEPS - WARM_UP), 1.0)
    return FLOOR + 0.5 * (PEAK - FLOOR) * (1 + math.cos(math.pi * way))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--text", help="a text file, gzip or not; without it the one of the repository")
    a = arguments.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    path = a.text or glob.glob(os.path.join(HERE, "../../crates/chainrule-train/data/*.txt.gz"))[0]
    text = (gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")).read()
    letters = sorted(set(text))
    code = {c: i for i, c in enumerate(letters)}
    tokens = np.array([code[c] for c in text])
    cut = len(tokens) * 9 // 10
    train, test = torch.from_numpy(tokens[:cut]), torch.from_numpy(tokens[cut:])
    draw = torch.Generator().manual_seed(a.seed)
    model = Gpt(len(letters))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, PEAK, (0.9, 0.99), fused=True)
    loss_of = lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    count = (len(test) - 1) // CONTEXT
    tests = (test[: count * CONTEXT].view(count, CONTEXT), test[1 : count * CONTEXT + 1].view(count, CONTEXT))
    recent, begin = [], time.time()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        at = torch.randint(len(train) - CONTEXT, (BATCH,), generator=draw)
        x = torch.stack([train[i : i + CONTEXT] for i in at])
        y = torch.stack([train[i + 1 : i + CONTEXT + 1] for i in at])
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = (recent + [loss.item()])[-50:]
        if (step + 1) % (STEPS // 10) == 0:
            with torch.no_grad():
                held = sum(loss_of(x, y).item() * len(x) for x, y in zip(*(t.split(128) for t in tests))) / count
            print(json.dumps({"step": step + 1, "train_loss": round(float(np.mean(recent)), 4),
                              "validation_loss": round(held, 4), "seconds": round(time.time() - begin, 1)}), flush=True)


main()
