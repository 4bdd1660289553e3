"""Writes optimizers.json: 50 steps of each optimizer, 50 rates of each schedule, and L-BFGS, in f64.

    OMP_NUM_THREADS=1 python make_optimizers.py        # made with torch 2.15.0

The model is tanh(x W' + b) V' with a squared error. The "settings" of a row are those of chainrule_nn's
OptimizerSettings or ScheduleSettings. PyTorch has no Lion and no LAMB: their published formulas stand below. PyTorch's
Muon runs its Newton-Schulz iteration in bf16: here the same iteration runs in f64.
"""
import json
import math
import pathlib

import torch
import torch.optim._muon as muon
from torch.optim import lr_scheduler as schedulers

torch.set_default_dtype(torch.float64)
STEPS = 50
DATA = torch.Generator().manual_seed(3)
X, Y = torch.randn(6, 4, generator=DATA), torch.randn(6, 2, generator=DATA)
START = [torch.randn(3, 4, generator=DATA) * 0.5, torch.randn(3, generator=DATA), torch.randn(2, 3, generator=DATA)]


def newton_schulz(grad, coefficients, steps, eps):
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad.clone()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


muon._zeropower_via_newtonschulz = newton_schulz


def fresh():
    return [w.clone().requires_grad_() for w in START]


def loss_of(w):
    return ((torch.tanh(X @ w[0].T + w[1]) @ w[2].T - Y) ** 2).mean()


class Lion:
    """X. Chen et al. 2023, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        self.params, self.lr, self.betas, self.decay = params, lr, betas, weight_decay
        self.m = [torch.zeros_like(p) for p in params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for p, m in zip(self.params, self.m):
            c = self.betas[0] * m + (1 - self.betas[0]) * p.grad
            p -= self.lr * (torch.sign(c) + self.decay * p)
            m.copy_(self.betas[1] * m + (1 - self.betas[1]) * p.grad)


class Lamb(Lion):
    """Y. You et al. 2020, algorithm 2, with phi the identity."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(params, lr, betas, weight_decay)
        self.v, self.eps, self.t = [torch.zeros_like(p) for p in params], eps, 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p, m, v in zip(self.params, self.m, self.v):
            m.copy_(self.betas[0] * m + (1 - self.betas[0]) * p.grad)
            v.copy_(self.betas[1] * v + (1 - self.betas[1]) * p.grad**2)
            r = (m / (1 - self.betas[0] ** self.t)) / (torch.sqrt(v / (1 - self.betas[1] ** self.t)) + self.eps)
            r = r + self.decay * p
            p -= self.lr * p.norm() / r.norm() * r


class Both:
    """Muon for the matrices, AdamW for the bias."""

    def __init__(self, params, rest_lr, **options):
        self.parts = [
            torch.optim.Muon([params[0], params[2]], **options),
            torch.optim.AdamW([params[1]], lr=rest_lr, weight_decay=options.get("weight_decay", 0.1)),
        ]

    def zero_grad(self):
        [part.zero_grad() for part in self.parts]

    def step(self):
        [part.step() for part in self.parts]


def run(make, schedule=None, clip=None):
    w = fresh()
    optimizer = make(w)
    scheduler = schedule and schedule(optimizer)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(w)
        loss.backward()
        losses.append(loss.item())
        if clip:
            torch.nn.utils.clip_grad_norm_(w, clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return {"losses": losses, "weights": [p.detach().flatten().tolist() for p in w]}


O = torch.optim
ROWS = []


def row(settings, make, schedule=None, clip=None):
    ROWS.append({"settings": settings, "clip": clip, **run(make, schedule, clip)})


row({"name": "sgd", "rate": 0.1}, lambda w: O.SGD(w, lr=0.1))
row({"name": "sgd", "rate": 0.1, "momentum": 0.9}, lambda w: O.SGD(w, lr=0.1, momentum=0.9))
row({"name": "sgd", "rate": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    lambda w: O.SGD(w, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01))
row({"name": "sgd", "rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    lambda w: O.SGD(w, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01))
row({"name": "adam", "rate": 0.05}, lambda w: O.Adam(w, lr=0.05))
row({"name": "adam", "rate": 0.05, "betas": [0.8, 0.99], "epsilon": 1e-6, "weight_decay": 0.1},
    lambda w: O.Adam(w, lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1))
row({"name": "adam", "rate": 0.05, "amsgrad": True, "betas": [0.9, 0.9]},
    lambda w: O.Adam(w, lr=0.05, amsgrad=True, betas=(0.9, 0.9)))
row({"name": "adamw", "rate": 0.05}, lambda w: O.AdamW(w, lr=0.05))
row({"name": "adamw", "rate": 0.05, "weight_decay": 0.2, "decay_matrices_only": True,
     "groups": {"2": {"rate": 0.1}}},
    lambda w: O.AdamW([{"params": [w[0]]}, {"params": [w[1]], "weight_decay": 0.0}, {"params": [w[2]], "lr": 0.005}],
                      lr=0.05, weight_decay=0.2))
row({"name": "adamw", "rate": 0.05, "groups": {"1": {"frozen": True}}}, lambda w: O.AdamW([w[0], w[2]], lr=0.05))
row({"name": "adamw", "rate": 0.1, "schedule": {"name": "cosine", "floor": 0.01, "steps": 40}},
    lambda w: O.AdamW(w, lr=0.1),
    lambda o: schedulers.LambdaLR(o, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * min(t / 40, 1))) / 2), clip=0.5)
row({"name": "nadam", "rate": 0.02}, lambda w: O.NAdam(w, lr=0.02))
row({"name": "nadam", "rate": 0.02, "decoupled": True, "weight_decay": 0.1, "momentum_decay": 0.01},
    lambda w: O.NAdam(w, lr=0.02, decoupled_weight_decay=True, weight_decay=0.1, momentum_decay=0.01))
row({"name": "radam", "rate": 0.05}, lambda w: O.RAdam(w, lr=0.05))
row({"name": "radam", "rate": 0.05, "betas": [0.9, 0.95], "weight_decay": 0.1},
    lambda w: O.RAdam(w, lr=0.05, betas=(0.9, 0.95), weight_decay=0.1))
row({"name": "rmsprop", "rate": 0.01}, lambda w: O.RMSprop(w, lr=0.01))
row({"name": "rmsprop", "rate": 0.01, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.01},
    lambda w: O.RMSprop(w, lr=0.01, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.01))
row({"name": "rmsprop", "rate": 0.01, "momentum": 0.9}, lambda w: O.RMSprop(w, lr=0.01, momentum=0.9))
row({"name": "adagrad", "rate": 0.1}, lambda w: O.Adagrad(w, lr=0.1))
row({"name": "adagrad", "rate": 0.1, "rate_decay": 0.05, "initial": 0.1, "weight_decay": 0.01},
    lambda w: O.Adagrad(w, lr=0.1, lr_decay=0.05, initial_accumulator_value=0.1, weight_decay=0.01))
row({"name": "adadelta", "rate": 1.0}, lambda w: O.Adadelta(w, lr=1.0))
row({"name": "adadelta", "rate": 2.0, "rho": 0.8, "epsilon": 1e-4, "weight_decay": 0.01},
    lambda w: O.Adadelta(w, lr=2.0, rho=0.8, eps=1e-4, weight_decay=0.01))
row({"name": "lion", "rate": 0.01, "weight_decay": 0.1}, lambda w: Lion(w, lr=0.01, weight_decay=0.1))
row({"name": "lamb", "rate": 0.05, "weight_decay": 0.1}, lambda w: Lamb(w, lr=0.05, weight_decay=0.1))
row({"name": "muon", "rate": 0.02, "groups": {"1": {"rate": 0.5}}}, lambda w: Both(w, 0.01, lr=0.02))
row({"name": "muon", "rate": 0.05, "adjust": "match_rms_adamw", "nesterov": False, "weight_decay": 0.0},
    lambda w: Both(w, 0.05, lr=0.05, adjust_lr_fn="match_rms_adamw", nesterov=False, weight_decay=0.0))

ONE_CYCLE = {"name": "one_cycle", "momentum": [0.85, 0.95]}


def one_cycle(optimizer):
    return schedulers.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=STEPS)


row({"name": "sgd", "rate": 0.1, "momentum": 0.5, "nesterov": True, "schedule": ONE_CYCLE},
    lambda w: O.SGD(w, lr=0.1, momentum=0.5, nesterov=True), one_cycle)
row({"name": "adam", "rate": 0.05, "schedule": ONE_CYCLE}, lambda w: O.Adam(w, lr=0.05), one_cycle)
row({"name": "adamw", "rate": 0.05, "schedule": ONE_CYCLE}, lambda w: O.AdamW(w, lr=0.05), one_cycle)
row({"name": "nadam", "rate": 0.02, "schedule": ONE_CYCLE}, lambda w: O.NAdam(w, lr=0.02), one_cycle)
row({"name": "radam", "rate": 0.05, "schedule": ONE_CYCLE}, lambda w: O.RAdam(w, lr=0.05), one_cycle)
row({"name": "rmsprop", "rate": 0.01, "momentum": 0.5, "schedule": ONE_CYCLE},
    lambda w: O.RMSprop(w, lr=0.01, momentum=0.5), one_cycle)

RATES = []


def rates(settings, make, rate=0.3):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler, seen = make(optimizer), []
    for _ in range(STEPS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    RATES.append({"settings": settings, "rate": rate, "rates": seen})


S = schedulers
rates({"name": "constant"}, lambda o: S.ConstantLR(o, factor=1.0))
rates({"name": "step", "every": 7, "gamma": 0.5}, lambda o: S.StepLR(o, 7, 0.5))
rates({"name": "multi_step", "milestones": [3, 20, 21]}, lambda o: S.MultiStepLR(o, [3, 20, 21]))
rates({"name": "exponential", "gamma": 0.9}, lambda o: S.ExponentialLR(o, 0.9))
rates({"name": "cosine", "floor": 0.01}, lambda o: S.CosineAnnealingLR(o, STEPS, eta_min=0.01))
rates({"name": "warm_restarts", "first": 7}, lambda o: S.CosineAnnealingWarmRestarts(o, 7))
rates({"name": "warm_restarts", "first": 3, "multiply": 2, "floor": 0.02},
      lambda o: S.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.02))
rates({"name": "warm_restarts", "first": 1, "multiply": 3}, lambda o: S.CosineAnnealingWarmRestarts(o, 1, T_mult=3))
rates({"name": "one_cycle"}, lambda o: S.OneCycleLR(o, 0.3, total_steps=STEPS + 1, cycle_momentum=False))
rates({"name": "one_cycle", "rise": 0.5, "divide": 10.0, "last_divide": 100.0, "steps": 60},
      lambda o: S.OneCycleLR(o, 0.3, total_steps=60, pct_start=0.5, div_factor=10, final_div_factor=100,
                             cycle_momentum=False))
rates({"name": "linear", "floor": 0.03, "steps": 30}, lambda o: S.LinearLR(o, 1.0, 0.1, 30))
rates({"name": "polynomial", "power": 2.0, "steps": 40}, lambda o: S.PolynomialLR(o, 40, 2.0))
rates({"name": "cosine", "warm_up": 10},
      lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1.0, 9), S.CosineAnnealingLR(o, STEPS - 10)], [10]))
rates({"name": "exponential", "gamma": 0.8, "warm_up": 5},
      lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.2, 1.0, 4), S.ExponentialLR(o, 0.8)], [5]))

PLATEAUS = []
FIGURES = [3, 2, 1.9, 1.9, 1.95, 1.9, 1.8999, 1.9, 1.7, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.6, 1.6, 1.6, 1.6, 1.6]
for settings in [
    {"factor": 0.5, "patience": 2},
    {"factor": 0.5, "patience": 1, "cooldown": 2, "floor": 0.1},
    {"factor": 0.3, "patience": 0, "threshold": 0.1},
    {"factor": 0.3, "patience": 2, "larger_is_better": True},
]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    names = {"floor": "min_lr"}
    options = {names.get(k, k): v for k, v in settings.items() if k != "larger_is_better"}
    mode = "max" if settings.get("larger_is_better") else "min"
    scheduler, seen = S.ReduceLROnPlateau(optimizer, mode, eps=0.0, **options), []
    for figure in FIGURES:
        scheduler.step(figure)
        seen.append(optimizer.param_groups[0]["lr"])
    PLATEAUS.append({"settings": settings, "figures": FIGURES, "rates": seen})

LBFGS = []
for history in [100, 3]:
    w = fresh()
    optimizer = torch.optim.LBFGS(w, max_iter=1, max_eval=26, history_size=history, line_search_fn="strong_wolfe",
                                  tolerance_grad=0.0, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(w)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(30)]
    LBFGS.append({"history": history, "losses": losses, "weights": [p.detach().flatten().tolist() for p in w]})

W, GRAD = torch.randn(4, 3, 2, generator=DATA), torch.randn(4, 3, 2, generator=DATA)
W[1] *= 1e-5
GRAD[2] *= 1e-3


def adaptive(w, g, factor, eps=1e-3):
    """A. Brock et al. 2021, equation 3, with units along axis 0."""
    size = lambda x: x.flatten(1).norm(dim=1).reshape(-1, 1, 1)
    most = factor * size(w).clamp(min=eps)
    return torch.where(size(g) > most, g * most / size(g), g)


by_value, by_norm = GRAD.clone().requires_grad_(), GRAD.clone().requires_grad_()
by_value.grad, by_norm.grad = GRAD.clone(), GRAD.clone()
torch.nn.utils.clip_grad_value_([by_value], 0.5)
torch.nn.utils.clip_grad_norm_([by_norm], 0.5)
CLIPS = {"weights": W.flatten().tolist(), "gradients": GRAD.flatten().tolist(),
         "value": by_value.grad.flatten().tolist(), "norm": by_norm.grad.flatten().tolist(),
         "adaptive": adaptive(W, GRAD, 0.01).flatten().tolist()}

golden = {
    "inputs": X.flatten().tolist(), "targets": Y.flatten().tolist(), "start": [w.flatten().tolist() for w in START],
    "optimizers": ROWS, "schedules": RATES, "plateaus": PLATEAUS, "lbfgs": LBFGS, "clips": CLIPS,
}
path = pathlib.Path(__file__).with_name("optimizers.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
