"""Variances of activations and of slopes in a network of five hidden layers, in PyTorch: the example `deep_sigmoid`.

    python scripts/reproductions/depth.py sigmoid-deep [--seed 0]
"""
from common import *

WIDTH, HIDDEN, BATCH, EPOCHS, RATE = 200, 5, 32, 40, 0.05


class Deep(nn.Module):
    def __init__(self, activation, normalised):
        super().__init__()
        sizes = [64, *[WIDTH] * HIDDEN, 10]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:]))
        self.activation = activation
        for layer in self.layers:
            bound = math.sqrt(6 / sum(layer.weight.shape)) if normalised else 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound), nn.init.zeros_(layer.bias)

    def forward(self, x, seen=None):
        for layer in self.layers[:-1]:
            z = layer(x)
            x = self.activation(z)
            if seen is not None:
                z.retain_grad()
                seen.append((z, x))
        return self.layers[-1](x)

    def variances(self, x, y):
        seen = []
        (F.cross_entropy(self(x, seen), y) * len(x)).backward()
        return [a.var(unbiased=False).item() for _, a in seen], [z.grad.var(unbiased=False).item() for z, _ in seen]


def main():
    a = arguments(__doc__, ["sigmoid-deep"])
    (x, y), (test_x, test_y) = digits()
    x, test_x, result = x.flatten(1), test_x.flatten(1), {}
    for name, activation in [("tanh", torch.tanh), ("sigmoid", torch.sigmoid)]:
        for kind in ("standard", "normalised"):
            model = Deep(activation, kind == "normalised")
            sgd = torch.optim.SGD(model.parameters(), RATE)
            shown = [model.variances(test_x, test_y)]
            for _ in range(1 if a.steps else EPOCHS):
                draw = ((x[at], y[at]) for at in batches(len(x), BATCH, 1))
                fit(model, sgd, constant(RATE), draw, lambda model, x, y: F.cross_entropy(model(x), y))
                shown.append(model.variances(test_x, test_y))
            slopes = shown[0][1]
            result[f"{name}, {kind}"] = {
                "accuracy": accuracy(model, (test_x, test_y)), "gradient_ratio": slopes[0] / slopes[-1],
                "activation_variances": [a for a, _ in shown], "gradient_variances": [g for _, g in shown]}
            say(name, kind, result[f"{name}, {kind}"]["gradient_ratio"], result[f"{name}, {kind}"]["accuracy"])
    finish(**result)


main()
