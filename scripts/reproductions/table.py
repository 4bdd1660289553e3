"""The rows of docs/reproductions.md: what is run on both sides, how often, and what must come out.

A line is one training on each side. `ours` is a recipe with settings, or an example with arguments; `theirs` is a script
beside this file with arguments. The order is that in which they are run: the cheap ones first.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A number of a result, by its path with dots, and the bar it must reach."""
    key: str
    what: str
    form: str = "number"  # or percent, factor
    least: float | None = None
    most: float | None = None
    within: float | None = None  # this far from the mean of PyTorch, or of the line `like`
    like: str | None = None
    over: str | None = None  # larger than the mean of that line, as the paper has it
    under: str | None = None  # smaller than it
    spread: str | None = None  # "less" or "more" is better: no worse than the worst of PyTorch's seeds
    paper: str = ""


@dataclass(frozen=True)
class Line:
    row: str
    name: str  # of the line: the row's own, or with what differs
    ours: tuple  # ("recipe", NAME, arguments…) or ("example", NAME, arguments…)
    theirs: tuple  # (SCRIPT, arguments…)
    figures: tuple
    seeds: tuple = (3, 3)
    minutes: tuple = (1.0, 1.0)  # a seed of each side on one core; where none was run so yet, an estimate
    sweep: tuple = ()  # rates that are tried, one training each
    may_diverge: bool = False
    score: bool = False  # images are made, and scored by mnist-cnn


def accuracy(least=None, **more):
    return Figure("accuracy", "test accuracy", "percent", least=least, **more)


def line(row, ours, theirs, *figures, name=None, **more):
    return Line(row, name or row, ours, theirs, figures, **more)


def image(row, *figures, seeds=(3, 3), minutes=(1, 1), recipe=None, more=(), name=None, **rest):
    recipe = recipe or row
    return line(row, ("recipe", recipe, *more), ("images.py", recipe), *figures, name=name, seeds=seeds, minutes=minutes, **rest)


def adding(name, recipe, figure, ours=(), theirs=(), **more):
    row = "adding-lstm" if "lstm" in recipe else "adding-rnn"
    return line(row, ("recipe", recipe, *ours), ("sequences.py", recipe, *ONE, *theirs), figure, name=name, **more)


def error(**bar):
    return Figure("mean_squared_error", "mean squared error", **bar)


def made(**more):
    return (Figure("frechet_distance", "Fréchet distance", spread="less", **more),
            Figure("classifier_score", "classifier score", spread="more"))


RATES = (0.03, 0.1, 0.3, 1, 3, 10, 30)
LARGEST = lambda **bar: Figure("largest_rate", "largest rate that reaches 90 %", "plain", **bar)
BF16 = ("--set", "train.precision=bf16")

ONE = ("--threads", "1")  # what PyTorch is quickest with where networks are tiny

LINES = [
    line("newton-logistic", ("example", "newton_logistic"), ("newton.py", "newton-logistic", *ONE),
         Figure("newton.gradient_norm", "gradient norm by Newton", "power", most=1e-10),
         Figure("lbfgs.gradient_norm", "gradient norm by L-BFGS", "power", most=1e-10),
         seeds=(1, 1), minutes=(0.1, 0.2)),
    line("sigmoid-deep", ("example", "deep_sigmoid"), ("depth.py", "sigmoid-deep", *ONE),
         Figure("tanh, standard.gradient_ratio", "variance of slopes, first over last layer, standard", "power", most=0.05),
         Figure("tanh, normalised.gradient_ratio", "the same, normalised", "power", least=0.25),
         minutes=(0.2, 0.3)),
    line("no-norm-deep", ("recipe", "no-norm-deep"), ("images.py", "no-norm-deep", *ONE), LARGEST(),
         seeds=(2, 2), minutes=(0.2, 0.8), sweep=RATES),
    line("no-norm-deep", ("recipe", "batch-norm-deep"), ("images.py", "batch-norm-deep", *ONE), LARGEST(least=1),
         name="no-norm-deep, with batch norm", seeds=(2, 2), minutes=(0.2, 0.9), sweep=RATES),
    line("neural-ode", ("example", "neural_ode"), ("equations.py", "neural-ode", *ONE),
         Figure("relative_error", "relative L2 error", "percent", most=0.01), minutes=(0.7, 1.4)),
    image("bf16", accuracy(), recipe="digits-cnn", name="digits-cnn in f32", minutes=(0.4, 1)),
    line("bf16", ("recipe", "digits-cnn", *BF16), ("images.py", "digits-cnn", "--precision", "bf16"),
         accuracy(within=0.003, like="digits-cnn in f32"), name="digits-cnn in bf16", minutes=(1, 1)),
    line("autoencoder", ("example", "autoencoder"), ("codes.py", "autoencoder"),
         Figure("squared_error", "squared error of a test image", spread="less"), minutes=(1.4, 1.7)),
    line("vae", ("example", "autoencoder", "--variational"), ("codes.py", "vae"),
         Figure("negative_elbo", "negative ELBO of the test, nats", within=1.0), minutes=(1.6, 1.8)),
    adding("adding-rnn", "adding-rnn", error(most=0.01), may_diverge=True, minutes=(0.2, 0.5)),
    adding("adding-rnn, not clipped", "adding-rnn", error(least=0.01), ("--set", "train.clip_norm=1e9"), ("--no-clip",),
           may_diverge=True, minutes=(0.2, 0.5)),
    adding("adding-rnn at 400", "adding-rnn", error(least=0.01), ("--set", "data.length=400"), ("--length", "400"),
           may_diverge=True, seeds=(2, 2), minutes=(2.9, 4.5)),
    adding("adding-lstm at 100", "adding-lstm", error(most=0.01), minutes=(1.4, 1.7), seeds=(2, 2)),
    image("mnist-mlp", accuracy(least=0.983), minutes=(0.9, 1.2)),
    image("mnist-cnn", accuracy(least=0.993), minutes=(4.6, 3.1)),
    image("lenet5", accuracy(least=0.99, paper="0.95 % wrong"), seeds=(2, 2), minutes=(2.4, 2.8)),
    line("burgers", ("example", "burgers"), ("equations.py", "burgers"),
         Figure("relative_error", "relative L2 error", "percent", most=0.02), seeds=(2, 2), minutes=(1.5, 2.2)),
    line("text", ("recipe", "text-lstm"), ("text.py", "text-lstm"),
         Figure("validation_loss", "validation loss", within=0.02), name="text-lstm", seeds=(3, 3), minutes=(1, 1.3)),
    line("text", ("recipe", "text-gpt"), ("text.py", "text-gpt"),
         Figure("validation_loss", "validation loss", within=0.02), name="text-gpt", seeds=(2, 2), minutes=(3.2, 3.2)),
    line("bf16", ("recipe", "text-gpt", *BF16), ("text.py", "text-gpt", "--precision", "bf16"),
         Figure("validation_loss", "validation loss", within=0.02, like="text-gpt"), name="text-gpt in bf16",
         seeds=(1, 1), minutes=(7, 6)),
    *(image("plain-and-residual", Figure("train_loss", "training loss in the last epoch", **bar), accuracy(),
            recipe=net, name=net, seeds=(2, 2), minutes=minutes)
      for net, bar, minutes in [("plain-20", {}, (1.2, 1.8)), ("plain-56", {"over": "plain-20"}, (3.2, 5.4)),
                                ("resnet-56", {"under": "plain-56"}, (3.2, 5.4))]),
    line("wgan-gp", ("recipe", "wgan-gp"), ("adversarial.py", "wgan-gp"), *made(), score=True, seeds=(2, 2), minutes=(23, 25)),
    line("dcgan", ("recipe", "dcgan", "--epochs", "4"), ("adversarial.py", "dcgan"), *made(), score=True,
         seeds=(2, 2), minutes=(11, 13)),
    image("vit-mnist", accuracy(least=0.985), seeds=(1, 1), minutes=(18, 22)),
    adding("adding-lstm at 400", "adding-lstm-400", error(most=0.01), seeds=(1, 1), minutes=(6, 9)),
    image("resnet", accuracy(least=0.995), seeds=(1, 1), minutes=(32, 45)),
]
