"""Digits through a code of 20 numbers and back, in PyTorch: the example `autoencoder`, with and without `--variational`.

    python scripts/reproductions/codes.py vae [--seed 0]
"""
from common import *

HIDDEN, CODE, BATCH, EPOCHS, RATE = 512, 20, 128, 15, 1e-3


class Coder(nn.Module):
    def __init__(self, variational):
        super().__init__()
        two = lambda a, b: nn.Sequential(nn.Linear(a, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, b))
        self.variational = variational
        self.encoder, self.decoder = two(784, 2 * CODE if variational else CODE), two(CODE, 784)

    def loss(self, x):
        said = self.encoder(x)
        if not self.variational:
            return ((torch.sigmoid(self.decoder(said)) - x) ** 2).sum(1).mean()
        mean, log = said.chunk(2, 1)
        logits = self.decoder(mean + (log / 2).exp() * torch.randn_like(mean))
        divergence = (mean**2 + log.exp() - 1 - log).sum(1).mean() / 2
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x) + divergence


def main():
    a = arguments(__doc__, ["autoencoder", "vae"])
    (train, _), (test, _) = mnist(a.data)
    train, test = train.flatten(1), test.flatten(1)
    model = Coder(a.row == "vae")
    each = len(train) // BATCH
    draw = ((train[at],) for at in batches(len(train), BATCH, EPOCHS))
    if a.steps:
        draw = (batch for batch, _ in zip(draw, range(a.steps)))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    losses = fit(model, optimizer, constant(RATE), draw, Coder.loss, None, each * EPOCHS, every=each)
    with torch.no_grad():
        held = sum(model.loss(x).item() * len(x) for x in test.split(500)) / len(test)
    finish(**{"negative_elbo" if a.row == "vae" else "squared_error": held}, steps=len(losses))


main()
