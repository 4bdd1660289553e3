"""Prints the numbers in optimizers.rs: five steps of each rule, as PyTorch's documentation states it, in plain Python.

f(w) = sum(a * w^2) / 2 + sum(sin(w)), so the gradient is a * w + cos(w).
"""
from math import cos, pi, sqrt

START = [1.0, -2.0, 0.5]
A = [1.0, 0.1, 10.0]


def grad(w):
    return [a * x + cos(x) for a, x in zip(A, w)]


def sgd(rate, momentum=0.0, nesterov=False, decay=0.0):
    w, b = list(START), None
    for _ in range(5):
        g = [gi + decay * x for gi, x in zip(grad(w), w)]
        if momentum:
            b = list(g) if b is None else [momentum * bi + gi for bi, gi in zip(b, g)]
            u = [gi + momentum * bi for gi, bi in zip(g, b)] if nesterov else b
        else:
            u = g
        w = [x - rate * ui for x, ui in zip(w, u)]
    return w


def adam(rate, betas=(0.9, 0.999), eps=1e-8, decay=0.0, decoupled=False, clip=None):
    w, m, v = list(START), [0.0] * 3, [0.0] * 3
    for t in range(1, 6):
        lr = rate(t - 1) if callable(rate) else rate
        g = grad(w)
        if clip is not None:
            norm = sqrt(sum(x * x for x in g))
            g = [x * min(1.0, clip / (norm + 1e-6)) for x in g]
        if decay and decoupled:
            w = [x * (1 - lr * decay) for x in w]
        elif decay:
            g = [gi + decay * x for gi, x in zip(g, w)]
        m = [betas[0] * mi + (1 - betas[0]) * gi for mi, gi in zip(m, g)]
        v = [betas[1] * vi + (1 - betas[1]) * gi * gi for vi, gi in zip(v, g)]
        size, root = lr / (1 - betas[0] ** t), sqrt(1 - betas[1] ** t)
        w = [x - size * mi / (sqrt(vi) / root + eps) for x, mi, vi in zip(w, m, v)]
    return w


print("sgd", sgd(0.05))
print("sgd momentum", sgd(0.05, 0.9))
print("sgd nesterov decay", sgd(0.05, 0.9, True, 0.1))
print("adam", adam(0.1))
print("adam decay", adam(0.1, (0.8, 0.99), 1e-6, 0.1))
print("adamw", adam(0.1, decay=0.1, decoupled=True))
print("adam cosine clip", adam(lambda t: 0.01 + 0.09 * (1 + cos(pi * min(t / 4, 1.0))) / 2, clip=1.0))
