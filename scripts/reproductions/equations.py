"""Networks with differential equations, in PyTorch: the examples `neural_ode` and `burgers` (a derivative in the loss).

    python scripts/reproductions/equations.py burgers [--seed 0]
"""
from common import *

VISCOSITY = 0.02 / math.pi


def descend(parameters, loss_of, steps):
    """L-BFGS with the line search of strong Wolfe conditions."""
    lbfgs = torch.optim.LBFGS(parameters, 1, steps, 2 * steps, 1e-9, 1e-14, 50, "strong_wolfe")
    def closure():
        lbfgs.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss
    lbfgs.step(closure)
    return loss_of().item()


# Burgers' equation

def network(sizes):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(layer.weight), nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def exact(x, t):
    """By J. Cole and E. Hopf, as a quotient of integrals with the weight exp(-z^2)."""
    z = np.arange(-400, 401) * 0.02
    begin = x[:, None] - np.sqrt(4 * VISCOSITY * t)[:, None] * z
    weight = np.exp(-np.cos(np.pi * begin) / (2 * np.pi * VISCOSITY) - 0.5 / (np.pi * VISCOSITY) - z**2)
    return -(np.sin(np.pi * begin) * weight).sum(1) / weight.sum(1)


def burgers(a):
    net = network([2, 32, 32, 32, 32, 1])
    value = lambda x, t: t * (1 - x * x) * net(torch.cat([x, t], 1)) - torch.sin(math.pi * x)
    slope = lambda y, x: torch.autograd.grad(y.sum(), x, create_graph=True)[0]
    x, t = torch.rand(2500, 1) * 2 - 1, torch.rand(2500, 1)
    x.requires_grad_(), t.requires_grad_()

    def loss_of():
        u = value(x, t)
        u_x = slope(u, x)
        return ((slope(u, t) + u * u_x - VISCOSITY * slope(u_x, x)) ** 2).mean()

    grid_x, grid_t = np.tile(np.linspace(-1, 1, 256), 100), np.repeat(np.linspace(0, 1, 100), 256)
    truth = torch.from_numpy(exact(grid_x, grid_t))[:, None]
    points = [torch.from_numpy(of)[:, None] for of in (grid_x, grid_t)]
    error = lambda: ((value(*points) - truth).norm() / truth.norm()).item()
    return net, loss_of, error, 1000, cosine(3e-3, 3e-4), 2000


# A network in the place of a right-hand side

POINTS, PIECE, BATCH = 1000, 20, 64


def solve(f, y, times, steps=1):
    """The classical method of Runge and Kutta, with so many steps between two times."""
    states = [y]
    for begin, end in zip(times, times[1:]):
        h = (end - begin) / steps
        for _ in range(steps):
            k1 = f(y)
            k2 = f(y + h / 2 * k1)
            k3 = f(y + h / 2 * k2)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(y + h * k3))
        states.append(y)
    return torch.stack(states)


def neural_ode(a):
    times = torch.linspace(0, 25, POINTS)
    matrix = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    truth = solve(lambda y: y**3 @ matrix, torch.tensor([[2.0, 0.0]]), times, 10)[:, 0]
    net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
    guess = lambda start, times: solve(lambda y: net(y**3), start, times)
    piece, ahead = times[:PIECE], torch.arange(PIECE)
    pieces = lambda places: truth[places[:, None] + ahead].transpose(0, 1)
    fixed = pieces(torch.arange((POINTS - PIECE) // 5) * 5)

    def loss_of(seen=fixed):
        return ((guess(seen[0], piece) - seen) ** 2).mean()

    @torch.no_grad()
    def error():
        return ((guess(truth[:1], times)[:, 0] - truth).norm() / truth.norm()).item()

    drawn = lambda: loss_of(pieces(torch.randint(POINTS - PIECE + 1, (BATCH,))))
    return net, loss_of, error, 2000, cosine(1e-2), 1000, drawn


def main():
    a = arguments(__doc__, ["burgers", "neural-ode"])
    torch.set_default_dtype(torch.float64)
    net, loss_of, error, count, rate, steps, *drawn = {"burgers": burgers, "neural-ode": neural_ode}[a.row](a)
    step_loss = drawn[0] if drawn else loss_of
    optimizer = torch.optim.Adam(net.parameters())
    nothing = (() for _ in range(a.steps or count))
    fit(net, optimizer, rate, nothing, lambda _: step_loss(), None, count, lambda: f"error {100 * error():.2f} %", count // 4)
    after_adam = error()
    loss = descend(net.parameters(), loss_of, a.steps or steps)
    finish(relative_error=error(), after_adam=after_adam, loss=loss)


main()
