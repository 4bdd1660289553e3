"""The adding problem in PyTorch: the recipes adding-lstm, adding-lstm-400 and adding-rnn.

    python scripts/reproductions/sequences.py adding-rnn [--seed 0] [--length 400] [--no-clip]
"""
from common import *

# row: (layer, length, peak rate)
ROWS = {"adding-lstm": (nn.LSTM, 100, 3e-3), "adding-lstm-400": (nn.LSTM, 400, 3e-3), "adding-rnn": (nn.RNN, 50, 0.3)}
STEPS, BATCH, TESTED = 4000, 64, 1000


def made(count, length, draw):
    values, half = torch.rand(count, length, generator=draw), length // 2
    marks = torch.zeros(count, length)
    at = torch.stack([torch.randint(half, (count,), generator=draw), half + torch.randint(length - half, (count,), generator=draw)], 1)
    marks.scatter_(1, at, 1.0)
    return torch.stack([values, marks], 2), values.gather(1, at).sum(1, keepdim=True)


class Adder(nn.Module):
    def __init__(self, layer):
        super().__init__()
        plain = {"nonlinearity": "relu"} if layer is nn.RNN else {}
        self.memory, self.out = layer(2, 64, batch_first=True, **plain), nn.Linear(64, 1)
        if plain:
            kaiming(self, nn.init.orthogonal_)

    def forward(self, x):
        return self.out(self.memory(x)[0][:, -1])


def more(parser):
    parser.add_argument("--length", type=int, help="in place of the recipe's")
    parser.add_argument("--no-clip", action="store_true", help="leave gradients as they are")


def main():
    a = arguments(__doc__, list(ROWS), more)
    layer, length, peak = ROWS[a.row]
    length = a.length or length
    model, draw = Adder(layer), torch.Generator().manual_seed(a.seed)
    test = made(TESTED, length, torch.Generator().manual_seed(12345))
    batches = (made(BATCH, length, draw) for _ in range(a.steps or STEPS))
    loss_of = lambda model, x, y: F.mse_loss(model(x), y)
    optimizer = (torch.optim.SGD if layer is nn.RNN else torch.optim.Adam)(model.parameters(), peak)
    losses = fit(model, optimizer, cosine(peak, warm_up=100), batches, loss_of, None if a.no_clip else 1.0, STEPS, every=500)
    with torch.no_grad():
        error = loss_of(model, *test).item()
    curve = [round(float(np.mean(losses[at : at + 100])), 5) for at in range(0, len(losses), 100)]
    finish(mean_squared_error=error if math.isfinite(error) else None, curve=curve, steps=len(losses))


main()
