"""Language models of characters in PyTorch: the recipes text-gpt (nanoGPT's configuration for a processor) and text-lstm.

    python scripts/reproductions/text.py text-gpt [--seed 0] [--threads 2] [--precision bf16]

The text is the one in this repository, its last tenth for validation. On stderr ten times the mean loss of the last
training batches and the mean loss over the whole validation part in windows one after the other.
"""
from common import *

CONTEXT, STEPS = 64, 2000
LAYERS, HEADS, WIDTH = 4, 4, 128


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
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """Head tied to the embedding; N(0, 0.02), the last weights of branches by sqrt(2 layers) less."""

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


class Recurrent(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.memory = nn.Embedding(vocabulary, 64), nn.LSTM(64, 128, 2, batch_first=True, dropout=0.1)
        self.dropout, self.out = nn.Dropout(0.1), nn.Linear(128, vocabulary)

    def forward(self, x):
        return self.out(self.dropout(self.memory(self.tokens(x))[0]))


# row: (network, batch, rate, weight decay, betas)
ROWS = {"text-gpt": (Gpt, 12, 1e-3, 0.1, (0.9, 0.99)), "text-lstm": (Recurrent, 16, 5e-3, 0.01, (0.9, 0.999))}


def main():
    a = arguments(__doc__, list(ROWS), lambda parser: parser.add_argument("--precision", choices=["f32", "bf16"], default="f32"))
    network, batch, peak, decay, betas = ROWS[a.row]
    train, test, letters = shakespeare()
    model, random = network(letters), torch.Generator().manual_seed(a.seed)

    def windows():
        for _ in range(a.steps or STEPS):
            at = torch.randint(len(train) - CONTEXT, (batch,), generator=random)
            yield torch.stack([train[i : i + CONTEXT] for i in at]), torch.stack([train[i + 1 : i + CONTEXT + 1] for i in at])

    def loss_of(model, x, y):
        with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
            logits = model(x)
        return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

    count = (len(test) - 1) // CONTEXT
    tests = (test[: count * CONTEXT].view(count, CONTEXT), test[1 : count * CONTEXT + 1].view(count, CONTEXT))
    held = []

    @torch.no_grad()
    def show():
        model.eval()
        held.append(round(sum(loss_of(model, x, y).item() * len(x) for x, y in zip(*(t.split(128) for t in tests))) / count, 4))
        return f"validation {held[-1]}"

    rate = cosine(peak, 1e-4, 100)
    losses = fit(model, adamw(model, peak, decay, betas), rate, windows(), loss_of, 1.0, STEPS, show, STEPS // 10)
    if not held or len(losses) < STEPS:
        show()
    finish(validation_loss=held[-1], curve=held, train_loss=float(np.mean(losses[-50:])), steps=len(losses))


main()
