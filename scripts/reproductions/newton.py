"""Logistic regression of the digits to the last bit, in PyTorch: the example `newton_logistic`.

    python scripts/reproductions/newton.py newton-logistic
"""
from torch.func import hessian
from common import *

PENALTY, ENOUGH = 1e-3, 1e-11


def main():
    a = arguments(__doc__, ["newton-logistic"])
    torch.set_default_dtype(torch.float64)
    (x, y), (test_x, test_y) = digits()
    x, test_x = x.flatten(1).double(), test_x.flatten(1).double()
    split = lambda w: (w[:640].view(10, 64), w[640:])
    logits = lambda w, x: x @ split(w)[0].T + split(w)[1]
    loss_of = lambda w: F.cross_entropy(logits(w, x), y) + PENALTY / 2 * (w * w).sum()
    w, norms = torch.zeros(650), []
    for _ in range(a.steps or 30):
        now = w.clone().requires_grad_()
        loss = loss_of(now)
        gradient, = torch.autograd.grad(loss, now)
        norms.append(gradient.norm().item())
        say(f"step {len(norms) - 1}: loss {loss.item():.16f}, gradient {norms[-1]:.3e}")
        if norms[-1] < ENOUGH:
            break
        way = torch.linalg.solve(hessian(loss_of)(w), gradient)
        t = 1.0
        while norms[-1] >= 1e-6 and loss_of(w - t * way) > loss:
            t /= 2
        w = w - t * way
    newton = {"steps": len(norms) - 1, "gradient_norm": norms[-1], "gradient_norms": norms, "loss": loss_of(w).item()}
    right = (logits(w, test_x).argmax(1) == test_y).double().mean().item()

    at = torch.zeros(650, requires_grad=True)
    lbfgs = torch.optim.LBFGS([at], 1, 2000, 4000, ENOUGH, 0.0, 10, "strong_wolfe")
    def closure():
        lbfgs.zero_grad()
        loss = loss_of(at)
        loss.backward()
        return loss
    lbfgs.step(closure)
    closure()
    finish(newton=newton, lbfgs={"gradient_norm": at.grad.norm().item(), "loss": loss_of(at).item()}, test_accuracy=right)


main()
