#!/usr/bin/env python3
"""Writes goldens.json: reference values, gradients and Hessian-vector products from JAX in float64.

    python make_goldens.py            # check everything, write goldens.json beside this file
    python make_goldens.py --only conv

Every case is checked before it is written:
  * values against an independent reference (mpmath with 60 digits for scalar functions; NumPy or
    plain loops for the others) wherever `ref` is given;
  * gradients and Hessian-vector products by five-point finite differences wherever the function is
    smooth around the point (`check=True`), and by mpmath's derivatives for scalar functions.

Sections stand in the order of README.md. A section has its own seed, and so has the weight and the
direction of each case, so a change in one section leaves the others as they are.
"""
import itertools
import json
import math
import os
import sys
import zlib

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import scipy.linalg
from jax import lax
from jax.nn import sigmoid, softplus

mp.mp.dps = 60
HERE = os.path.dirname(os.path.abspath(__file__))
ONLY = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None

CASES = []
FAILURES = []
COUNT = {}
CHECKS = {"value": 0, "gradient": 0, "hvp": 0, "mpmath": 0}


# ---------------------------------------------------------------- drawing numbers

def seeded(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def normal(rng, *shape):
    """Four decimals, so that the file stays small and the inputs are exact in print."""
    return np.round(rng.standard_normal(shape), 4)


def uniform(rng, low, high, *shape):
    return np.round(rng.uniform(low, high, shape), 4)


def distinct(rng, *shape):
    """Values at least 0.04 apart: no ties, even while finite differences move them."""
    n = int(np.prod(shape))
    grid = np.linspace(-2.5, 2.5, n) if n > 1 else np.array([0.3])
    gap = min(grid[1] - grid[0], 0.5) if n > 1 else 0.5
    assert gap > 0.03, shape
    return np.round(rng.permutation(grid + rng.uniform(-0.2, 0.2, n) * gap), 4).reshape(shape)


def away(x, *kinks, margin=0.05):
    """Moves entries that lie too near a kink."""
    for k in kinks:
        x = np.where(np.abs(x - k) < margin, k + np.where(x >= k, 1, -1) * (margin + np.abs(x - k)), x)
    return np.round(x, 4)


def ints(*values, shape=None):
    a = np.array(values if len(values) != 1 or shape is not None else values[0], dtype=np.int64)
    return a.reshape(shape) if shape is not None else a


# ---------------------------------------------------------------- one case

DTYPES = {np.dtype("float64"): "f64", np.dtype("int64"): "i64", np.dtype("bool"): "bool"}


def tensor(a):
    a = np.asarray(a)
    flat = a.reshape(-1).tolist()
    if a.dtype == bool:
        flat = [int(v) for v in flat]
    elif a.dtype == np.float64:
        flat = [v if math.isfinite(v) else ("nan" if v != v else "inf" if v > 0 else "-inf") for v in flat]
    return {"dtype": DTYPES[a.dtype], "shape": list(a.shape), "data": flat}


def close(got, want, rtol, atol, what):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape} vs {want.shape}"
    if not np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
        bad = np.abs(got - want) > atol + rtol * np.abs(want)
        raise AssertionError(f"{what}: {got[bad] if got.shape else got} vs {want[bad] if want.shape else want}")


def case(op, *args, **options):
    if ONLY and not op.startswith(ONLY):
        return
    try:
        CASES.append(made(op, *args, **options))
    except AssertionError as e:
        FAILURES.append(str(e))


def made(op, attrs, inputs, fn, wrt=(), *, check=True, hvp=True, ref=None, rtol=1e-12, scalar=None, note=None, relative=False, tolerance=None, source="jax"):
    """Computes, checks and records one case.

    fn      jnp function of all the inputs
    wrt     inputs to differentiate; () for none
    check   compare with finite differences (False at kinks, ties and extreme points)
    hvp     False where the second derivative does not exist or is not finite
    ref     the value by another road: an array, or a NumPy function of the inputs
    scalar  an mpmath function, for elementwise operations: checks value and both derivatives
    relative, tolerance, source   go into the file, see README.md
    """
    inputs = [np.asarray(x) for x in inputs]
    wrt = list(wrt)
    number = COUNT.get(op, 0)
    COUNT[op] = number + 1
    name = f"{op}#{number}"
    rng = seeded(name)
    record = {"id": name, "op": op, "attrs": attrs, "inputs": [tensor(x) for x in inputs], "wrt": wrt}
    if note:
        record["note"] = note
    if relative:
        record["relative"] = True
    if tolerance:
        record["tolerance"] = tolerance

    def value(*xs):
        return fn(*xs)

    if not wrt:
        out = np.asarray(jax.jit(value)(*inputs))
    else:
        shape = jax.eval_shape(value, *inputs).shape
        weight = uniform(rng, -2, 2, *shape)
        weight = np.round(np.where(np.abs(weight) < 0.1, 0.5, weight), 3)
        direction = [np.round(rng.standard_normal(inputs[i].shape), 3) for i in wrt]

        def loss(active, xs):
            xs = list(xs)
            for i, a in zip(wrt, active):
                xs[i] = a
            out = value(*xs)
            return jnp.sum(weight * out), out

        @jax.jit
        def everything(active, xs, direction):
            gradient = lambda a: jax.grad(loss, has_aux=True)(a, xs)
            (grads, out), (curvature, _) = jax.jvp(gradient, (active,), (direction,))
            return out, grads, curvature

        active = [inputs[i] for i in wrt]
        out, grads, curvature = [jax.tree.map(np.asarray, t) for t in everything(active, inputs, direction)]
        assert out.dtype == np.float64, name
        if hvp:
            assert all(np.isfinite(c).all() for c in curvature), f"{name}: hvp not finite {curvature}"
        if check:
            check_differences(name, everything, inputs, active, weight, direction, out, grads, curvature, hvp, rng)

    if ref is not None:
        close(out, ref(*inputs) if callable(ref) else ref, rtol, rtol, f"{name} value")
        CHECKS["value"] += 1
    if scalar is not None:
        check_scalar(name, scalar, inputs[0], out, relative, *((weight, grads[0], direction[0], curvature[0] if hvp else None) if wrt else ()))

    record["output"] = tensor(out)
    if wrt:
        record["weight"] = tensor(weight)
        record["gradients"] = [tensor(g) for g in grads]
        if hvp:
            record["direction"] = [tensor(d) for d in direction]
            record["hvp"] = [tensor(c) for c in curvature]
    record["source"] = source
    return record


def check_differences(name, everything, inputs, active, weight, direction, out, grads, curvature, hvp, rng):
    """f′ ≈ (8(f₁ − f₋₁) − (f₂ − f₋₂)) / 12h, for the loss along three directions, for the gradient along one."""
    h = 1e-4

    def along(v):
        shots = []
        for t in (1, -1, 2, -2):
            moved = [a + t * h * d for a, d in zip(active, v)]
            o, g, _ = everything(moved, inputs, direction)
            shots.append((float(np.sum(weight * np.asarray(o))), [np.asarray(x) for x in g]))
        slope = lambda f: (8 * (f(0) - f(1)) - (f(2) - f(3))) / (12 * h)
        return slope(lambda s: shots[s][0]), [slope(lambda s, k=k: shots[s][1][k]) for k in range(len(active))]

    size = float(np.sum(np.abs(weight * out)))
    others = [[rng.standard_normal(a.shape) for a in active] for _ in range(2)]
    for v in [direction] + others:
        measured, bent = along(v)
        stated = sum(float(np.sum(g * d)) for g, d in zip(grads, v))
        assert abs(measured - stated) <= 2e-8 * (1 + abs(stated)) + 1e-10 * size, f"{name}: gradient {stated} but differences say {measured}"
        CHECKS["gradient"] += 1
        if v is direction and hvp:
            for b, c, g in zip(bent, curvature, grads):
                scale = max([1.0] + [float(np.max(np.abs(t))) for t in (c, g) if t.size])
                close(c, b, 2e-8, 2e-8 * scale, f"{name} hvp")
                CHECKS["hvp"] += 1


def check_scalar(name, f, x, out, relative, weight=None, gradient=None, direction=None, curvature=None):
    """The value (relatively, if asked) and both derivatives against mpmath, which differentiates u ↦ f(x(1 + u))."""
    def near(got, want, what, rtol, atol):
        want = mp.re(want)
        want = float(want) if abs(want) < mp.mpf("1.7e308") else math.copysign(math.inf, want)
        assert got == want or abs(got - want) <= rtol * abs(want) + atol, f"{name} {what}: {got!r} vs {want!r}"

    for i, v in enumerate(x.reshape(-1).tolist()):
        m = mp.mpf(v)
        derivative = lambda k: mp.diff(lambda u: f(m * (1 + u)), 0, k) / m**k if v else mp.diff(f, 0, k)
        near(out.reshape(-1)[i], f(m), f"value at {v!r}", 4e-14, 0 if relative else 1e-15)
        if gradient is not None:
            factor = weight.reshape(-1)[i]
            near(gradient.reshape(-1)[i], factor * derivative(1), f"derivative at {v!r}", 2e-13, 4e-15 * abs(factor))
        if curvature is not None:
            factor = weight.reshape(-1)[i] * direction.reshape(-1)[i]
            near(curvature.reshape(-1)[i], factor * derivative(2), f"second derivative at {v!r}", 1e-12, 4e-15 * abs(factor))
    CHECKS["mpmath"] += 1


# ---------------------------------------------------------------- unary

def unary():
    rng = seeded("unary")
    erf_ = lambda x: mp.erf(x)
    sig = lambda x: 1 / (1 + mp.exp(-x))
    plain = lambda low, high: (lambda *s: uniform(rng, low, high, *s))
    smooth = {
        "neg": (lambda x: -x, lambda x: -x, plain(-3, 3)),
        "exp": (jnp.exp, mp.exp, plain(-3, 3)),
        "expm1": (jnp.expm1, mp.expm1, plain(-3, 3)),
        "log": (jnp.log, mp.log, plain(0.1, 5)),
        "log1p": (jnp.log1p, mp.log1p, plain(-0.9, 4)),
        "sin": (jnp.sin, mp.sin, plain(-6, 6)),
        "cos": (jnp.cos, mp.cos, plain(-6, 6)),
        "tan": (jnp.tan, mp.tan, plain(-1.4, 1.4)),
        "asin": (jnp.arcsin, mp.asin, plain(-0.95, 0.95)),
        "acos": (jnp.arccos, mp.acos, plain(-0.95, 0.95)),
        "atan": (jnp.arctan, mp.atan, plain(-4, 4)),
        "sinh": (jnp.sinh, mp.sinh, plain(-3, 3)),
        "cosh": (jnp.cosh, mp.cosh, plain(-3, 3)),
        "tanh": (jnp.tanh, mp.tanh, plain(-3, 3)),
        "sigmoid": (sigmoid, sig, plain(-6, 6)),
        "erf": (lax.erf, erf_, plain(-2.5, 2.5)),
        "sqrt": (jnp.sqrt, mp.sqrt, plain(0.1, 6)),
        "rsqrt": (lax.rsqrt, lambda x: 1 / mp.sqrt(x), plain(0.1, 6)),
        "square": (jnp.square, lambda x: x * x, plain(-3, 3)),
        "reciprocal": (lambda x: 1 / x, lambda x: 1 / x, lambda *s: away(uniform(rng, -3, 3, *s), 0.0, margin=0.2)),
        "abs": (jnp.abs, abs, lambda *s: away(uniform(rng, -3, 3, *s), 0.0)),
    }
    special = {  # op: [(points, note)]
        "exp": [([700.0, -700.0, 50.25, 0.0], "large"), ([1e-12, -1e-12, 1e-5], "near 0")],
        "expm1": [([1e-12, -1e-12, 1e-5, 0.0], "near 0"), ([50.0, -50.0, 700.0], "large")],
        "log": [([1e-100, 1e-12, 1e12, 1e300, 1.0], "wide range"), ([1.0000001, 0.9999999], "near 1")],
        "log1p": [([1e-12, -1e-12, 1e-5, 0.0], "near 0"), ([1e12, -0.999999], "far")],
        "sin": [([1e-12, 0.0, 3.141592653589793, 1.5707963267948966], "near 0 and multiples of π"), ([1e3, 1e5, 1e8, -12345.678], "large")],
        "cos": [([1e-12, 0.0, 3.141592653589793, 1.5707963267948966], "near 0 and multiples of π"), ([1e3, 1e5, 1e8, -12345.678], "large")],
        "tan": [([1.57, -1.5707, 0.0, 1e-12], "near the pole and 0")],
        "asin": [([0.999999, -0.999999, 0.0, 1e-12], "near the ends and 0")],
        "acos": [([0.999999, -0.999999, 0.0, 1e-12], "near the ends and 0")],
        "atan": [([1e6, -1e6, 0.0, 1e-12], "large and near 0")],
        "sinh": [([1e-12, 0.0, 1e-5], "near 0"), ([50.0, -50.0, 300.0], "large")],
        "cosh": [([1e-12, 0.0, 50.0, -300.0], "near 0 and large")],
        "tanh": [([30.0, -30.0, 800.0, -800.0], "saturated"), ([1e-12, -1e-5, 0.0, 0.3], "near 0")],
        "sigmoid": [([800.0, -800.0, 40.0, -40.0], "saturated"), ([0.0, 1e-12], "near 0")],
        "erf": [([6.0, -6.0, 10.0, 30.0], "saturated"), ([1e-12, 0.0, -1e-5], "near 0")],
        "sqrt": [([1e-10, 1e-6, 1e-40, 1e20], "near 0 and large")],
        "rsqrt": [([1e-10, 1e-6, 1e-40, 1e20], "near 0 and large")],
        "reciprocal": [([1e-10, -1e-6, 1e20], "near 0 and large")],
        "square": [([0.0, 1e-150, 1e150], "near 0 and large")],
    }
    for op, (fn, exact, draw) in smooth.items():
        case(op, {}, [draw(7)], fn, [0], scalar=exact)
        case(op, {}, [draw(2, 3)], fn, [0], scalar=exact)
        for points, note in special.get(op, []):
            case(op, {}, [np.array(points)], fn, [0], check=False, scalar=exact, note=note, relative=True)
    case("sigmoid", {}, [np.array(0.75)], sigmoid, [0], scalar=sig, note="a scalar")
    # where the derivative is a convention or not finite
    # JAX says |x|'(0) = 1 (it selects on x >= 0); the project's convention is 0, stated here by sign(0) = 0
    case("abs", {}, [np.array([0.0, -0.0, 1.5, -2.0])], lambda x: x * lax.stop_gradient(jnp.sign(x)), [0], check=False, ref=np.abs, note="|x|'(0) = 0", source="convention")
    case("sqrt", {}, [np.array([0.0, 4.0])], jnp.sqrt, [0], check=False, hvp=False, note="sqrt'(0) = inf")
    values_only = {
        "log": [0.0, -1.0, math.inf], "log1p": [-1.0, -2.0], "sqrt": [-1.0, math.inf, 0.0], "exp": [1000.0, -1000.0, -math.inf, math.nan],
        "reciprocal": [0.0, -0.0, math.inf], "rsqrt": [0.0, math.inf], "asin": [1.0, -1.0, 2.0], "acos": [1.0, -1.0, 2.0],
        "tanh": [math.inf, -math.inf, math.nan], "sigmoid": [math.inf, -math.inf, math.nan], "abs": [-math.inf, math.nan],
        "expm1": [1000.0, -math.inf], "erf": [math.inf, -math.inf, math.nan], "cosh": [1000.0, -math.inf], "atan": [math.inf, -math.inf],
    }
    plainly = {"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "reciprocal": lambda x: 1 / x, "rsqrt": lambda x: 1 / np.sqrt(x),
               "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": lambda x: np.array([math.erf(v) for v in x])}
    for op, points in values_only.items():
        with np.errstate(all="ignore"):
            case(op, {}, [np.array(points)], smooth[op][0], ref=plainly.get(op) or getattr(np, op), note="value only")
    for op, fn, ref in [("sign", jnp.sign, np.sign), ("floor", jnp.floor, np.floor), ("ceil", jnp.ceil, np.ceil), ("round", jnp.round, np.round)]:
        case(op, {}, [uniform(rng, -4, 4, 8)], fn, ref=ref)
        case(op, {}, [np.array([0.0, 1.0, -1.0, 0.49999999999999994, 1e15 + 0.5, -1e300, math.inf, -math.inf])], fn, ref=ref)
    case("round", {}, [np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5])], jnp.round, ref=np.round, note="halves go to the even neighbour")


# ---------------------------------------------------------------- binary, comparison, select

PAIRS = [((), ()), ((3,), (3,)), ((), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1)), ((2, 3), ()), ((1,), (4,)), ((1, 1, 2), (3, 1))]


def binary():
    rng = seeded("binary")
    for op, fn, ref in [("add", jnp.add, np.add), ("sub", jnp.subtract, np.subtract), ("mul", jnp.multiply, np.multiply)]:
        for a, b in PAIRS:
            case(op, {}, [normal(rng, *a), normal(rng, *b)], fn, [0, 1], ref=ref)
    for a, b in PAIRS:
        case("div", {}, [normal(rng, *a), away(normal(rng, *b), 0.0, margin=0.3)], jnp.divide, [0, 1], ref=np.divide)
    with np.errstate(all="ignore"):
        case("div", {}, [np.array([1.0, -1.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, math.inf])], jnp.divide, ref=np.divide, note="value only")
    for op, fn, ref in [("max", jnp.maximum, np.maximum), ("min", jnp.minimum, np.minimum)]:
        for a, b in PAIRS[1:6] + PAIRS[7:]:
            n, m = int(np.prod(a)), int(np.prod(b))
            mixed = distinct(rng, n + m)
            case(op + "imum", {}, [mixed[:n].reshape(a), mixed[n:].reshape(b)], fn, [0, 1], ref=ref)
        tied = "ties share the gradient equally"
        case(op + "imum", {}, [np.array([1.0, 2.0, 3.0, 0.0]), np.array([1.0, 1.0, 3.0, 0.0])], fn, [0, 1], check=False, ref=ref, note=tied)
        case(op + "imum", {}, [np.array([[1.0, 2.0], [0.5, 1.0]]), np.array(1.0)], fn, [0, 1], check=False, ref=ref, note=tied)
        case(op + "imum", {}, [np.array([math.nan, 1.0, math.inf]), np.array([1.0, math.nan, -math.inf])], fn, ref=ref, note="NaN wins; value only")
    for a, b in PAIRS:
        case("pow", {}, [uniform(rng, 0.2, 3, *a), uniform(rng, -2.5, 2.5, *b)], jnp.power, [0, 1], ref=np.power)
    case("pow", {}, [np.array([-1.5, -2.0, -0.7, -1.1, -3.0]), np.array([2.0, 3.0, -1.0, 0.0, 1.0])], jnp.power, [0], ref=np.power,
         note="negative base, whole exponents; gradient of the base only")
    case("pow", {}, [np.array([[-1.5, 2.0], [0.5, -0.25]]), np.array(3.0)], jnp.power, [0], ref=np.power, note="negative base, scalar exponent")
    case("pow", {}, [np.array([0.0, 0.0, 0.0]), np.array([2.0, 3.0, 4.0])], jnp.power, [0], ref=np.power, note="base 0")
    case("pow", {}, [np.array([0.0]), np.array([1.0])], jnp.power, [0], check=False, hvp=False, ref=np.power, note="(x^1)' = 1 at 0")
    case("pow", {}, [np.array([0.0, 2.0, -3.0]), np.array([0.0, 0.0, 0.0])], jnp.power, ref=np.power, note="x^0 = 1, 0^0 too; value only, as JAX's gradient at 0^0 is NaN")
    case("pow", {}, [np.array([0.0, 2.0]), np.array([2.5, 0.0])], jnp.power, [0, 1], check=False, hvp=False, ref=np.power,
         note="base 0 with exponent > 0: both derivatives 0")
    with np.errstate(all="ignore"):
        case("pow", {}, [np.array([-8.0, 0.0, 2.0, -2.0]), np.array([1 / 3, -1.0, 0.5, 3.0])], jnp.power, ref=np.power, note="value only")


def comparisons():
    rng = seeded("comparisons")
    for op in ["less", "less_equal", "equal", "not_equal", "greater", "greater_equal"]:
        a = rng.integers(-1, 2, (2, 3)).astype(float)
        b = rng.integers(-1, 2, (3,)).astype(float)
        case(op, {}, [a, b], getattr(jnp, op), ref=getattr(np, op))
        case(op, {}, [np.array([0.0, math.nan, math.inf, -math.inf, 1.0]), np.array([-0.0, math.nan, math.inf, 1.0, math.nan])], getattr(jnp, op), ref=getattr(np, op),
             note="NaN is unordered; -0 = 0")
    for op in ["less", "equal"]:
        case(op, {}, [rng.integers(-2, 3, (4, 1)), rng.integers(-2, 3, (1, 3))], getattr(jnp, op), ref=getattr(np, op), note="integers")
    for c, a, b in [((4,), (4,), (4,)), ((2, 1), (2, 3), (3,)), ((3,), (), (2, 3)), ((2, 2), (2, 1, 1), (1, 2)), ((), (3,), (3,))]:
        cond = rng.random(c) < 0.5
        case("where", {}, [cond, normal(rng, *a), normal(rng, *b)], jnp.where, [1, 2], ref=np.where)
    case("where", {}, [np.array([True, False]), np.array([1.0, math.nan]), np.array([math.inf, 2.0])], jnp.where, [1, 2], check=False, ref=np.where,
         note="the branch not taken may be NaN")
    for low, high in [(-1.0, 1.0), (0.0, 6.0), (None, 0.5), (-0.25, None)]:
        x = away(normal(rng, 2, 5) * 2, *[k for k in (low, high) if k is not None])
        case("clip", {"min": low, "max": high}, [x], lambda x: jnp.clip(x, low, high), [0], ref=lambda x: np.clip(x, low, high))


# ---------------------------------------------------------------- activations

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def activations():
    rng = seeded("activations")
    zero = mp.mpf(0)
    phi = lambda x: (1 + mp.erf(x / mp.sqrt(2))) / 2
    sp = lambda x: mp.log1p(mp.exp(x))
    rows = [  # op, attrs, fn, mpmath function, kinks
        ("relu", {}, jax.nn.relu, lambda x: max(x, zero), [0]),
        ("leaky_relu", {"slope": 0.01}, lambda x: jax.nn.leaky_relu(x, 0.01), lambda x: x if x > 0 else mp.mpf(0.01) * x, [0]),
        ("leaky_relu", {"slope": 0.2}, lambda x: jax.nn.leaky_relu(x, 0.2), lambda x: x if x > 0 else mp.mpf(0.2) * x, [0]),
        ("elu", {"alpha": 1.0}, lambda x: jax.nn.elu(x, 1.0), lambda x: x if x > 0 else mp.expm1(x), [0]),
        ("elu", {"alpha": 1.5}, lambda x: jax.nn.elu(x, 1.5), lambda x: x if x > 0 else 1.5 * mp.expm1(x), [0]),
        ("selu", {}, jax.nn.selu, lambda x: mp.mpf(SELU_SCALE) * (x if x > 0 else mp.mpf(SELU_ALPHA) * mp.expm1(x)), [0]),
        ("celu", {"alpha": 1.0}, lambda x: jax.nn.celu(x, 1.0), lambda x: x if x > 0 else mp.expm1(x), [0]),
        ("celu", {"alpha": 0.5}, lambda x: jax.nn.celu(x, 0.5), lambda x: x if x > 0 else 0.5 * mp.expm1(x / 0.5), [0]),
        ("gelu", {}, lambda x: jax.nn.gelu(x, approximate=False), lambda x: x * phi(x), []),
        ("gelu_tanh", {}, lambda x: jax.nn.gelu(x, approximate=True),
         lambda x: x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x ** 3))) / 2, []),
        ("silu", {}, jax.nn.silu, lambda x: x / (1 + mp.exp(-x)), []),
        ("mish", {}, jax.nn.mish, lambda x: x * mp.tanh(sp(x)), []),
        ("softplus", {}, softplus, sp, []),
        ("softsign", {}, jax.nn.soft_sign, lambda x: x / (1 + abs(x)), [0]),
        ("hard_tanh", {}, jax.nn.hard_tanh, lambda x: min(max(x, -1), 1), [-1, 1]),
        ("hard_sigmoid", {}, jax.nn.hard_sigmoid, lambda x: min(max(x + 3, zero), 6) / 6, [-3, 3]),
    ]
    far = {"gelu": [8.0, -8.0, 40.0, -40.0, 0.0], "gelu_tanh": [8.0, -8.0, 40.0, -40.0, 0.0], "silu": [800.0, -800.0, 30.0, -30.0, 0.0],
           "mish": [800.0, -800.0, 25.0, -25.0, 0.0], "softplus": [800.0, -800.0, 40.0, -40.0, 0.0, 1e-12], "softsign": [1e6, -1e6],
           "selu": [-50.0, 50.0, -1e-10], "elu": [-50.0, 50.0, -1e-10], "celu": [-50.0, 50.0, -1e-10]}
    seen = set()
    for op, attrs, fn, exact, kinks in rows:
        case(op, attrs, [away(uniform(rng, -4, 4, 8), *kinks)], fn, [0], scalar=exact)
        case(op, attrs, [away(normal(rng, 2, 3) * 1.5, *kinks)], fn, [0], scalar=exact)
        if op in far and op not in seen:
            case(op, attrs, [np.array(far[op])], fn, [0], check=False, scalar=exact, note="far out")
        seen.add(op)
    case("relu", {}, [np.array([0.0, -0.0, 1.0, -1.0])], jax.nn.relu, [0], check=False, note="relu'(0) = 0")
    case("hard_tanh", {}, [np.array([5.0, -5.0, 0.0])], jax.nn.hard_tanh, [0])

    channel = lambda x, w: jnp.where(x > 0, x, x * w.reshape((1, -1) + (1,) * (x.ndim - 2)))
    for shape in [(3, 4), (2, 3, 4), (1, 2, 2, 3)]:
        case("prelu", {}, [away(normal(rng, *shape), 0.0), uniform(rng, -0.3, 0.5, shape[1])], channel, [0, 1])
    for shape, axis in [((6,), 0), ((2, 4), 1), ((2, 4, 3), 1), ((4, 3), 0), ((3, 2, 2), -1)]:
        case("glu", {"axis": axis}, [normal(rng, *shape)], lambda x: jax.nn.glu(x, axis), [0])
    soft = [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 3), -1), ((2, 1), 1)]
    exact_lse = lambda x, axis, keep=True: np.log(np.sum(np.exp(x - x.max(axis, keepdims=True)), axis, keepdims=True)) + x.max(axis, keepdims=True)
    big = np.array([[1e4, 1e4 - 1.0, -1e4, 0.0], [-1e4, -1e4 + 0.5, -1e4 - 2.0, -1e4]])
    for shape, axis in soft:
        x = normal(rng, *shape) * 2
        case("softmax", {"axis": axis}, [x], lambda x: jax.nn.softmax(x, axis), [0], ref=lambda x: np.exp(x - exact_lse(x, axis)))
        case("log_softmax", {"axis": axis}, [x], lambda x: jax.nn.log_softmax(x, axis), [0], ref=lambda x: x - exact_lse(x, axis))
    case("softmax", {"axis": 1}, [big], lambda x: jax.nn.softmax(x, 1), [0], ref=lambda x: np.exp(x - exact_lse(x, 1)), check=False, note="large inputs")
    case("log_softmax", {"axis": 1}, [big], lambda x: jax.nn.log_softmax(x, 1), [0], ref=lambda x: x - exact_lse(x, 1), check=False, note="large inputs")
    case("softmax", {"axis": 0}, [np.array([0.5, -math.inf, 1.0])], lambda x: jax.nn.softmax(x, 0), note="a masked entry; value only")
    for shape, axis, keep in [((5,), 0, False), ((3, 4), 1, False), ((3, 4), 0, True), ((2, 3, 4), 1, False), ((2, 3, 4), -1, True)]:
        case("logsumexp", {"axis": axis, "keepdims": keep}, [normal(rng, *shape) * 2], lambda x: jax.nn.logsumexp(x, axis, keepdims=keep), [0],
             ref=lambda x: exact_lse(x, axis) if keep else exact_lse(x, axis).squeeze(axis))
    case("logsumexp", {"axis": 1, "keepdims": False}, [big], lambda x: jax.nn.logsumexp(x, 1), [0], ref=lambda x: exact_lse(x, 1).squeeze(1), check=False, note="large inputs")


# ---------------------------------------------------------------- reductions

REDUCE = [((4,), None, False), ((2, 3), None, False), ((2, 3), [0], False), ((2, 3), [1], True), ((2, 3, 2), [0, 2], False), ((2, 3, 2), [-1], False), ((2, 3), None, True)]


def reductions():
    rng = seeded("reductions")
    tup = lambda axes: None if axes is None else tuple(axes)
    draws = {"sum": normal, "mean": normal, "reduce_max": distinct, "reduce_min": distinct, "prod": normal, "norm": normal}
    table = {"sum": (jnp.sum, np.sum), "mean": (jnp.mean, np.mean), "reduce_max": (jnp.max, np.max), "reduce_min": (jnp.min, np.min), "prod": (jnp.prod, np.prod),
             "norm": (lambda x, axis, keepdims: jnp.sqrt(jnp.sum(x * x, axis=axis, keepdims=keepdims)),
                      lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)))}
    for op, (fn, ref) in table.items():
        for shape, axes, keep in REDUCE:
            case(op, {"axes": axes, "keepdims": keep}, [draws[op](rng, *shape)], lambda x: fn(x, axis=tup(axes), keepdims=keep), [0],
                 ref=lambda x: ref(x, axis=tup(axes), keepdims=keep))
    for op, fn in [("reduce_max", jnp.max), ("reduce_min", jnp.min)]:
        for x, axes in [([1.0, 3.0, 3.0, 1.0, 2.0], None), ([[1.0, 1.0, 1.0], [2.0, 0.0, 2.0]], [1]), ([[1.0, 1.0, 1.0], [2.0, 0.0, 2.0]], [0]), ([[0.0, 0.0], [0.0, 0.0]], None)]:
            case(op, {"axes": axes, "keepdims": False}, [np.array(x)], lambda x: fn(x, axis=tup(axes)), [0], check=False, note="ties share the gradient equally")
    for x, axes in [([2.0, 0.0, 3.0, -1.5], None), ([2.0, 0.0, 3.0, 0.0], None), ([[0.0, 1.5, 2.0], [0.5, -1.0, 0.0]], [1]), ([[0.0, 1.5, 2.0], [0.0, -1.0, 0.5]], [0]), ([0.0, 0.0, 0.0, 2.0], None)]:
        case("prod", {"axes": axes, "keepdims": False}, [np.array(x)], lambda x: jnp.prod(x, axis=tup(axes)), [0], ref=lambda x: np.prod(x, axis=tup(axes)), note="zeros among the factors")
    case("sum", {"axes": [0], "keepdims": False}, [np.zeros((0, 3))], lambda x: jnp.sum(x, axis=0), [0], note="an empty axis")
    for op, fn, ref in [("var", jnp.var, np.var), ("std", jnp.std, np.std)]:
        for shape, axes, correction, keep in [((5,), None, 0, False), ((2, 4), [1], 1, False), ((3, 2), [0], 0, True), ((2, 3, 2), [0, 2], 1, False), ((2, 3, 2), [-1], 0, True)]:
            case(op, {"axes": axes, "correction": correction, "keepdims": keep}, [normal(rng, *shape)],
                 lambda x: fn(x, axis=tup(axes), ddof=correction, keepdims=keep), [0], ref=lambda x: ref(x, axis=tup(axes), ddof=correction, keepdims=keep))
        case(op, {"axes": [0], "correction": 1, "keepdims": False}, [np.round(1e5 + normal(rng, 6), 4)], lambda x: fn(x, axis=0, ddof=1), [0], check=False,
             ref=lambda x: ref(x, axis=0, ddof=1), rtol=1e-10, note="a large mean", tolerance=1e-8)
    for op, fn, ref in [("argmax", jnp.argmax, np.argmax), ("argmin", jnp.argmin, np.argmin)]:
        for x, axis in [(distinct(rng, 6), 0), (distinct(rng, 3, 4), 1), (distinct(rng, 2, 3, 2), 1), (distinct(rng, 3, 4), -2)]:
            case(op, {"axis": axis}, [x], lambda x: fn(x, axis=axis), ref=lambda x: ref(x, axis=axis))
        case(op, {"axis": 1}, [np.array([[1.0, 3.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]])], lambda x: fn(x, axis=1), ref=lambda x: ref(x, axis=1), note="the first of equals")
    for shape, axis, rev in [((5,), 0, False), ((5,), 0, True), ((2, 3), 1, False), ((2, 3), 0, True), ((2, 3, 2), 1, True), ((2, 3, 2), -1, False)]:
        case("cumsum", {"axis": axis, "reverse": rev}, [normal(rng, *shape)], lambda x: lax.cumsum(x, axis % x.ndim, rev), [0],
             ref=lambda x: np.flip(np.cumsum(np.flip(x, axis), axis), axis) if rev else np.cumsum(x, axis))
    for op, fn, ref in [("any", jnp.any, np.any), ("all", jnp.all, np.all)]:
        b = rng.random((3, 4)) < 0.5
        b[0], b[1] = True, False
        for axes, keep in [(None, False), ([1], False), ([0], True), ([0, 1], False)]:
            case(op, {"axes": axes, "keepdims": keep}, [b], lambda x: fn(x, axis=tup(axes), keepdims=keep), ref=lambda x: ref(x, axis=tup(axes), keepdims=keep))


# ---------------------------------------------------------------- movement

def movement():
    rng = seeded("movement")
    for a, b in [((2, 3), (6,)), ((6,), (3, 1, 2)), ((2, 3, 2), (4, 3)), ((1,), ()), ((2, 3), (2, 3))]:
        case("reshape", {"shape": list(b)}, [normal(rng, *a)], lambda x: jnp.reshape(x, b), [0], ref=lambda x: x.reshape(b))
    for shape, axes in [((2, 3), (1, 0)), ((2, 3, 2), (2, 0, 1)), ((2, 3, 2), (0, 2, 1)), ((1, 2, 3, 2), (3, 1, 0, 2))]:
        case("permute", {"axes": list(axes)}, [normal(rng, *shape)], lambda x: jnp.transpose(x, axes), [0], ref=lambda x: x.transpose(axes))
    for a, b in [((), (3,)), ((3,), (2, 3)), ((2, 1), (2, 4)), ((1, 3, 1), (2, 2, 3, 2)), ((1,), (5,))]:
        case("broadcast_to", {"shape": list(b)}, [normal(rng, *a)], lambda x: jnp.broadcast_to(x, b), [0], ref=lambda x: np.broadcast_to(x, b))
    for shape, spec in [
        ((6,), [(1, 5, 1)]), ((6,), [(None, None, 2)]), ((6,), [(None, None, -1)]), ((7,), [(-2, 0, -2)]), ((7,), [(-3, None, 1)]),
        ((3, 4), [(0, 2, 1), (1, 4, 2)]), ((3, 4), [(None, None, -1), (3, None, -2)]), ((3, 4), [(1, 2, 1), (-4, -1, 1)]),
        ((2, 3, 4), [(None, None, 1), (2, 0, -1), (None, -1, 3)]), ((5,), [(0, 100, 1)]), ((4,), [(2, 2, 1)]),
    ]:
        cut = tuple(slice(*s) for s in spec)
        case("slice", {"start": [s[0] for s in spec], "stop": [s[1] for s in spec], "step": [s[2] for s in spec]}, [normal(rng, *shape)], lambda x: x[cut], [0], ref=lambda x: x[cut])
    for shape, low, high, interior, fill in [
        ((3,), [1], [2], [0], 0.0), ((3,), [0], [0], [1], 0.0), ((2, 3), [1, 0], [0, 2], [0, 0], 1.5), ((2, 3), [0, 1], [1, 1], [1, 2], -1.0),
        ((5,), [-1], [-2], [0], 0.0), ((2, 4), [1, -1], [-1, 2], [0, 1], 0.5), ((2, 2, 2), [0, 1, 0], [1, 0, 2], [0, 1, 0], 0.0), ((4,), [-2], [3], [1], 2.0),
    ]:
        case("pad", {"low": low, "high": high, "interior": interior, "value": fill}, [normal(rng, *shape)],
             lambda x: lax.pad(x, jnp.float64(fill), list(zip(low, high, interior))), [0], ref=lambda x: pad_by_hand(x, low, high, interior, fill))
    for shapes, axis in [([(2,), (3,)], 0), ([(2, 3), (2, 1)], 1), ([(1, 3), (2, 3), (1, 3)], 0), ([(2, 1, 2), (2, 2, 2), (2, 1, 2)], -2), ([(2, 2), (2, 0), (2, 1)], 1)]:
        case("concat", {"axis": axis}, [normal(rng, *s) for s in shapes], lambda *x: jnp.concatenate(x, axis), range(len(shapes)), ref=lambda *x: np.concatenate(x, axis))
    for shape, n, axis in [((), 3, 0), ((3,), 2, 0), ((3,), 2, 1), ((2, 2), 3, -1), ((2, 2), 2, 1)]:
        case("stack", {"axis": axis}, [normal(rng, *shape) for _ in range(n)], lambda *x: jnp.stack(x, axis), range(n), ref=lambda *x: np.stack(x, axis))
    for shape, axes in [((5,), [0]), ((2, 3), [1]), ((2, 3), [0, 1]), ((2, 3, 2), [0, -1])]:
        case("reverse", {"axes": axes}, [normal(rng, *shape)], lambda x: jnp.flip(x, tuple(axes)), [0], ref=lambda x: np.flip(x, tuple(axes)))
    for op, fn, ref in [("tril", jnp.tril, np.tril), ("triu", jnp.triu, np.triu)]:
        for shape, k in [((3, 3), 0), ((3, 4), 1), ((4, 3), -1), ((2, 3, 3), -2)]:
            case(op, {"k": k}, [normal(rng, *shape)], lambda x: fn(x, k), [0], ref=lambda x: ref(x, k))


def pad_by_hand(x, low, high, interior, fill=0.0):
    """lax.pad: spread the entries, then pad or (negative) crop each end."""
    spread = [n + max(n - 1, 0) * i for n, i in zip(x.shape, interior)]
    y = np.full(spread, fill)
    y[tuple(slice(None, None, i + 1) for i in interior)] = x
    y = np.pad(y, [(max(l, 0), max(h, 0)) for l, h in zip(low, high)], constant_values=fill)
    return y[tuple(slice(max(-l, 0), n - max(-h, 0)) for l, h, n in zip(low, high, y.shape))]


# ---------------------------------------------------------------- indexing

def indexing():
    rng = seeded("indexing")
    for shape, axis, idx in [
        ((5,), 0, ints(3)), ((5,), 0, ints([0, 4, 4, 2])), ((5,), 0, ints([-1, -5, 1, -1])), ((4, 3), 0, ints([1, 1, 3])), ((4, 3), 1, ints([2, 0])),
        ((4, 3), 0, ints([[0, 1], [3, -1]])), ((2, 4, 2), 1, ints([[3, 0, 3]])), ((2, 3), -1, ints([[1], [1]])), ((3, 2), 0, ints(-2)), ((3, 2), 0, np.zeros((0,), np.int64)),
    ]:
        case("gather", {"axis": axis}, [normal(rng, *shape), idx], lambda x, i: jnp.take(x, i, axis=axis), [0], ref=lambda x, i: np.take(x, i, axis=axis))
    for shape, axis, idx in [((5,), 0, ints([4, 0, 4])), ((2, 3), 1, ints([[0, 2, 2, 1], [1, 1, 1, 0]])), ((3, 2), 0, ints([[2, 0], [2, 1]])), ((2, 3, 2), 1, ints([[[0, 1]], [[2, 2]]])),
                             ((2, 3), -1, ints([[2], [0]]))]:
        case("take_along_axis", {"axis": axis}, [normal(rng, *shape), idx], lambda x, i: jnp.take_along_axis(x, i, axis), [0], ref=lambda x, i: np.take_along_axis(x, i, axis))
    for idx, axis, size, rest in [
        (ints([0, 2, 2, 1]), 0, 4, ()), (ints([1, 1, 1]), 0, 2, (3,)), (ints([3, 0]), 1, 4, (2,)), (ints([[0, 1], [1, 3]]), 0, 4, (2,)), (ints(2), 0, 3, (2,)),
        (ints([-1, 0, -1]), 0, 3, (2,)), (ints([[2, 0, 2]]), 1, 3, (2, 2)),
    ]:
        shape = rest[:axis] + (size,) + rest[axis:]
        updates = normal(rng, *(rest[:axis] + idx.shape + rest[axis:]))
        where = lambda i: (slice(None),) * axis + (i,)

        def by_hand(i, u):
            y = np.zeros(shape)
            np.add.at(y, where(i), u)
            return y
        case("scatter_add", {"axis": axis, "size": size, "shape": list(shape)}, [idx, updates], lambda i, u: jnp.zeros(shape).at[where(i)].add(u), [1], ref=by_hand)
    for shape, axis, down in [((6,), 0, False), ((6,), 0, True), ((3, 4), 1, False), ((3, 4), 0, True), ((2, 3, 2), -2, False)]:
        x = distinct(rng, *shape)
        case("sort", {"axis": axis, "descending": down}, [x], lambda x: jnp.sort(x, axis=axis, descending=down), [0], ref=lambda x: -np.sort(-x, axis) if down else np.sort(x, axis))
        case("argsort", {"axis": axis, "descending": down}, [x], lambda x: jnp.argsort(x, axis=axis, descending=down), ref=lambda x: np.argsort(-x if down else x, axis))
    tied = np.array([2.0, 1.0, 2.0, 1.0, 3.0, 1.0])
    for down in [False, True]:
        case("argsort", {"axis": 0, "descending": down}, [tied], lambda x: jnp.argsort(x, axis=0, stable=True, descending=down),
             ref=lambda x: np.argsort(-x if down else x, kind="stable"), note="stable: equals keep their order, both ways")
        case("sort", {"axis": 0, "descending": down}, [tied], lambda x: jnp.sort(x, descending=down), ref=lambda x: -np.sort(-x) if down else np.sort(x), note="ties; value only")
    for shape, k in [((6,), 3), ((3, 4), 2), ((2, 2, 3), 1), ((2, 4), 4)]:
        case("top_k", {"k": k}, [distinct(rng, *shape)], lambda x: lax.top_k(x, k)[0], [0], ref=lambda x: -np.sort(-x, -1)[..., :k])


# ---------------------------------------------------------------- dot

def dot():
    rng = seeded("dot")
    for a, b in [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((2, 2, 3), (2, 3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (3, 2)), ((2, 1, 2, 2), (3, 2, 1)),
                 ((3,), (2, 3, 2)), ((2, 2, 3), (3,)), ((1, 2, 3), (2, 3, 1)), ((5, 4), (4, 5)), ((2, 0), (0, 3))]:
        case("matmul", {}, [normal(rng, *a), normal(rng, *b)], jnp.matmul, [0, 1], ref=np.matmul)
    for spec, shapes in [
        ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,kj->ik", [(2, 3), (4, 3)]), ("ji,jk->ik", [(3, 2), (3, 2)]), ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]),
        ("ij->j", [(2, 3)]), ("i,j->ij", [(3,), (2,)]), ("i,i->", [(4,), (4,)]), ("bhqd,bhkd->bhqk", [(1, 2, 2, 3), (1, 2, 3, 3)]), ("bhqk,bhkd->bhqd", [(1, 2, 2, 3), (1, 2, 3, 2)]),
        ("ij,ij->i", [(2, 3), (2, 3)]), ("ij,ij->ij", [(2, 3), (2, 3)]), ("ijk,kl,l->ij", [(2, 2, 3), (3, 2), (2,)]), ("i,ij,j->", [(2,), (2, 3), (3,)]), ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
        ("bi,oi,bo->", [(2, 3), (2, 3), (2, 2)]), ("abc,acd->dba", [(2, 2, 3), (2, 3, 2)]), ("ij,k->ikj", [(2, 2), (3,)]), ("ijk->ki", [(2, 3, 2)]), ("i,jk->j", [(2,), (3, 2)]), ("bnd,de->bne", [(2, 2, 3), (3, 2)]),
        ("...ij,jk->...ik", [(2, 2, 3), (3, 2)]),
    ]:
        case("einsum", {"spec": spec}, [normal(rng, *s) for s in shapes], lambda *x: jnp.einsum(spec, *x), range(len(shapes)), ref=lambda *x: np.einsum(spec, *x),
             note="an ellipsis" if "..." in spec else None)
    for a, b, lb, rb, lc, rc in [
        ((2, 3), (3, 4), [], [], [1], [0]), ((2, 3), (4, 3), [], [], [1], [1]), ((3, 2), (3, 4), [], [], [0], [0]), ((2, 2, 3), (2, 3, 2), [0], [0], [2], [1]),
        ((2, 3, 2), (3, 2, 2), [], [], [1, 2], [0, 1]), ((2, 3, 2), (2, 2, 3), [], [], [1, 0], [2, 0]), ((2, 2, 3), (3, 2, 2), [1], [2], [2], [0]),
        ((2, 1, 2, 3), (3, 2, 1, 2), [0, 1], [1, 2], [3], [0]), ((2,), (3,), [], [], [], []), ((2, 3), (2, 3), [0, 1], [0, 1], [], []),
    ]:
        letters = iter("abcdefghijklmnop")
        l, r = [None] * len(a), [None] * len(b)
        batch = []
        for i, j in zip(lb, rb):
            l[i] = r[j] = c = next(letters)
            batch.append(c)
        for i, j in zip(lc, rc):
            l[i] = r[j] = next(letters)
        lf = [i for i in range(len(a)) if l[i] is None]
        rf = [i for i in range(len(b)) if r[i] is None]
        for t, free in ((l, lf), (r, rf)):
            for i in free:
                t[i] = next(letters)
        spec = f"{''.join(l)},{''.join(r)}->{''.join(batch + [l[i] for i in lf] + [r[i] for i in rf])}"
        case("dot_general", {"lhs_batch": lb, "rhs_batch": rb, "lhs_contract": lc, "rhs_contract": rc}, [normal(rng, *a), normal(rng, *b)],
             lambda x, y: lax.dot_general(x, y, ((lc, rc), (lb, rb))), [0, 1], ref=lambda x, y: np.einsum(spec, x, y))


# ---------------------------------------------------------------- convolution

def conv_jax(x, w, stride, pad, lhs_dilation, rhs_dilation, groups):
    letters = "XYZ"[: x.ndim - 2]
    return lax.conv_general_dilated(x, w, stride, pad, lhs_dilation, rhs_dilation, ("NC" + letters, "OI" + letters, "NC" + letters), groups)


def conv_by_hand(x, w, stride, pad, lhs_dilation, rhs_dilation, groups):
    d = x.ndim - 2
    x = pad_by_hand(x, [0, 0] + [p[0] for p in pad], [0, 0] + [p[1] for p in pad], [0, 0] + [n - 1 for n in lhs_dilation])
    size = [(x.shape[2 + a] - (w.shape[2 + a] - 1) * rhs_dilation[a] - 1) // stride[a] + 1 for a in range(d)]
    out = np.zeros([x.shape[0], w.shape[0]] + size)
    per = w.shape[0] // groups
    for o in range(w.shape[0]):
        g = o // per
        for at in itertools.product(*map(range, size)):
            for k in itertools.product(*map(range, w.shape[2:])):
                where = tuple(at[a] * stride[a] + k[a] * rhs_dilation[a] for a in range(d))
                out[(slice(None), o) + at] += x[(slice(None), slice(g * w.shape[1], (g + 1) * w.shape[1])) + where] @ w[(o, slice(None)) + k]
    return out


def conv():
    rng = seeded("conv")

    def one(batch, cin, cout, size, kernel, stride=None, pad=None, lhs=None, rhs=None, groups=1, note=None):
        d = len(size)
        stride, pad, lhs, rhs = stride or [1] * d, pad or [[0, 0]] * d, lhs or [1] * d, rhs or [1] * d
        settings = (stride, pad, lhs, rhs, groups)
        case("conv", {"stride": stride, "pad": pad, "lhs_dilation": lhs, "rhs_dilation": rhs, "groups": groups},
             [normal(rng, batch, cin, *size), normal(rng, cout, cin // groups, *kernel)], lambda x, w: conv_jax(x, w, *settings), [0, 1], ref=lambda x, w: conv_by_hand(x, w, *settings), note=note)

    # one dimension
    one(1, 1, 1, [5], [3])
    one(2, 2, 3, [6], [3])
    one(1, 2, 2, [7], [3], [2])
    one(1, 2, 2, [7], [3], [3], [[1, 1]])
    one(1, 1, 2, [6], [3], pad=[[1, 1]])
    one(1, 1, 2, [6], [2], pad=[[0, 1]])
    one(1, 2, 1, [6], [3], pad=[[2, 0]], note="causal")
    one(1, 1, 2, [8], [3], pad=[[-1, -2]], note="negative padding")
    one(1, 1, 2, [6], [3], pad=[[-1, 3]])
    one(1, 2, 2, [4], [3], lhs=[2])
    one(1, 2, 2, [4], [3], pad=[[2, 1]], lhs=[3])
    one(1, 1, 2, [4], [3], [2], [[1, 2]], [3])
    one(1, 2, 2, [8], [3], rhs=[2])
    one(1, 1, 2, [9], [3], [2], [[1, 0]], rhs=[3])
    one(1, 2, 2, [5], [2], [2], [[2, 1]], [2], [3])
    one(2, 4, 4, [4], [2], groups=2)
    one(1, 3, 3, [5], [3], pad=[[1, 1]], groups=3, note="depthwise")
    one(1, 2, 4, [5], [3], [2], [[1, 1]], groups=2, note="depthwise, multiplier 2")
    one(1, 2, 2, [4], [2], [1], [[1, 1]], [2], [2], 2)
    one(2, 3, 2, [4], [1], note="kernel 1")
    one(1, 2, 2, [5], [1], [2], note="kernel 1, stride 2")
    one(1, 1, 1, [4], [4], note="kernel as long as the input")
    one(1, 1, 1, [3], [5], pad=[[1, 1]], note="kernel longer than the unpadded input")
    one(1, 1, 1, [7], [2], [4], note="stride longer than the kernel: some inputs are not used")
    # two dimensions
    one(1, 1, 1, [4, 4], [3, 3])
    one(1, 2, 2, [4, 4], [3, 3], pad=[[1, 1], [1, 1]])
    one(2, 1, 2, [4, 3], [2, 2])
    one(1, 2, 2, [5, 5], [3, 3], [2, 2], [[1, 1], [1, 1]])
    one(1, 1, 2, [5, 4], [3, 2], [2, 1])
    one(1, 2, 1, [4, 6], [2, 3], [1, 2], [[0, 1], [2, 0]])
    one(1, 1, 2, [6, 5], [2, 2], pad=[[-1, 0], [-2, 1]])
    one(1, 1, 1, [6, 6], [2, 2], [2, 2], [[-1, -1], [-1, -1]])
    one(1, 2, 2, [3, 3], [3, 3], pad=[[1, 1], [1, 1]], lhs=[2, 2])
    one(1, 1, 2, [3, 2], [2, 3], [1, 2], [[1, 0], [2, 2]], [2, 3])
    one(1, 2, 2, [5, 5], [2, 2], rhs=[2, 2])
    one(1, 1, 1, [6, 6], [3, 2], [2, 1], [[1, 1], [0, 0]], rhs=[2, 3])
    one(1, 1, 2, [3, 3], [2, 2], [2, 2], [[1, 1], [1, 2]], [2, 2], [2, 2])
    one(1, 1, 2, [3, 4], [2, 2], [1, 2], [[-1, 2], [1, -1]], [2, 1], [1, 2])
    one(1, 4, 2, [3, 3], [2, 2], groups=2)
    one(1, 3, 3, [4, 4], [3, 3], pad=[[1, 1], [1, 1]], groups=3, note="depthwise")
    one(1, 3, 3, [4, 4], [2, 2], [2, 2], groups=3, note="depthwise, stride 2")
    one(1, 2, 4, [4, 3], [2, 2], pad=[[0, 1], [1, 0]], groups=2, note="depthwise, multiplier 2")
    one(1, 2, 2, [5, 5], [2, 2], [1, 2], [[0, 0], [1, 1]], rhs=[2, 1], groups=2)
    one(1, 2, 4, [3, 3], [2, 2], [2, 1], [[1, 1], [0, 1]], [2, 2], [1, 2], 2)
    one(2, 3, 2, [2, 3], [1, 1], note="kernel 1×1")
    one(1, 1, 2, [4, 4], [1, 3], pad=[[0, 0], [1, 1]])
    one(1, 1, 2, [4, 4], [3, 1], [1, 2])
    one(1, 1, 1, [2, 2], [3, 3], pad=[[2, 2], [2, 2]], note="full")
    one(2, 4, 4, [2, 2], [2, 2], pad=[[1, 0], [0, 1]], groups=4, note="depthwise")
    # three dimensions
    one(1, 1, 1, [3, 3, 3], [2, 2, 2])
    one(1, 1, 2, [3, 2, 3], [2, 2, 2], pad=[[1, 0], [0, 1], [1, 1]])
    one(1, 2, 1, [3, 3, 2], [2, 2, 1], [2, 1, 1], [[1, 1], [0, 0], [0, 0]])
    one(1, 1, 1, [2, 2, 2], [2, 1, 2], pad=[[1, 0], [0, 0], [0, 1]], lhs=[2, 1, 2])
    one(1, 1, 1, [4, 3, 4], [2, 2, 2], rhs=[2, 1, 3])
    one(1, 2, 2, [2, 3, 2], [2, 2, 2], pad=[[0, 0], [1, 0], [0, 1]], groups=2, note="depthwise")
    one(1, 2, 2, [3, 3, 3], [2, 2, 2], [2, 2, 2], [[1, 0], [0, 0], [-1, 2]], [1, 2, 1], [1, 1, 2], 2)
    one(2, 1, 1, [2, 2, 2], [1, 1, 1])


def conv_transpose_jax(x, w, stride, padding, output_padding, dilation, groups):
    """The transpose of the forward convolution with the same weight (its vector-Jacobian product)."""
    d = x.ndim - 2
    size = [(x.shape[2 + a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (w.shape[2 + a] - 1) + output_padding[a] + 1 for a in range(d)]
    # w [Cin, Cout/g, K] is the OI kernel of the forward convolution from Cout channels to Cin channels
    forward = lambda y: conv_jax(y, w, stride, [(p, p) for p in padding], [1] * d, dilation, groups)
    y = jnp.zeros([x.shape[0], w.shape[1] * groups] + size)
    assert jax.eval_shape(forward, y).shape == x.shape
    return jax.linear_transpose(forward, y)(x)[0]


def conv_transpose_by_hand(x, w, stride, padding, output_padding, dilation, groups):
    """PyTorch's words: every input entry stamps the kernel, scaled, at stride times its place; then crop."""
    d = x.ndim - 2
    full = [(x.shape[2 + a] - 1) * stride[a] + dilation[a] * (w.shape[2 + a] - 1) + 1 + output_padding[a] for a in range(d)]
    out = np.zeros([x.shape[0], w.shape[1] * groups] + full)
    per = w.shape[0] // groups
    for c in range(w.shape[0]):
        g = c // per
        for at in itertools.product(*map(range, x.shape[2:])):
            for k in itertools.product(*map(range, w.shape[2:])):
                where = tuple(at[a] * stride[a] + k[a] * dilation[a] for a in range(d))
                out[(slice(None), slice(g * w.shape[1], (g + 1) * w.shape[1])) + where] += np.outer(x[(slice(None), c) + at], w[(c, slice(None)) + k])
    return out[(slice(None),) * 2 + tuple(slice(p, n - p) for p, n in zip(padding, full))]


def conv_transpose():
    rng = seeded("conv_transpose")

    def one(batch, cin, cout, size, kernel, stride=None, padding=None, output_padding=None, dilation=None, groups=1):
        d = len(size)
        stride, padding, output_padding, dilation = stride or [1] * d, padding or [0] * d, output_padding or [0] * d, dilation or [1] * d
        settings = (stride, padding, output_padding, dilation, groups)
        case("conv_transpose", {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": groups},
             [normal(rng, batch, cin, *size), normal(rng, cin, cout // groups, *kernel)],
             lambda x, w: conv_transpose_jax(x, w, *settings), [0, 1], ref=lambda x, w: conv_transpose_by_hand(x, w, *settings))

    one(1, 1, 1, [4], [3])
    one(2, 2, 3, [3], [2])
    one(1, 2, 2, [4], [3], [2])
    one(1, 2, 1, [4], [3], [2], [1], [1])
    one(1, 1, 2, [3], [3], [3], [1], [2])
    one(1, 1, 2, [4], [2], dilation=[2])
    one(1, 4, 4, [3], [3], [2], [1], groups=2)
    one(1, 2, 4, [3], [2], [2], groups=2)
    one(1, 1, 2, [3, 3], [2, 2])
    one(1, 2, 2, [3, 2], [3, 3], [2, 2], [1, 1])
    one(1, 2, 1, [3, 2], [3, 2], [2, 3], [1, 0], [1, 2])
    one(1, 2, 2, [2, 3], [2, 3], [2, 1], [1, 1], [1, 0], [2, 1])
    one(1, 2, 2, [3, 3], [4, 4], [2, 2], [1, 1])
    one(1, 3, 3, [2, 2], [2, 2], [2, 2], groups=3)
    one(1, 1, 1, [2, 2, 2], [2, 2, 2])
    one(1, 2, 1, [2, 2, 2], [3, 2, 2], [2, 1, 2], [1, 0, 0], [1, 0, 1])


# ---------------------------------------------------------------- pooling

def windows(shape, window, stride, padding, dilation):
    """For each pooled axis an index array [out, window] into the padded axis."""
    d = len(window)
    tables = []
    for a in range(d):
        n = shape[len(shape) - d + a] + 2 * padding[a]
        out = (n - dilation[a] * (window[a] - 1) - 1) // stride[a] + 1
        tables.append(np.arange(out)[:, None] * stride[a] + np.arange(window[a]) * dilation[a])
    return tables


def pool(x, window, stride, padding, dilation, fill, reduce):
    d = len(window)
    lead = x.ndim - d
    tables = windows(x.shape, window, stride, padding, dilation)
    xp = jnp if isinstance(x, jax.Array) else np
    x = xp.pad(x, [(0, 0)] * lead + [(p, p) for p in padding], constant_values=fill)
    for a, t in enumerate(tables):
        x = xp.take(x, t, axis=lead + 2 * a)  # [.., out, window, ..]
    return reduce(x, tuple(lead + 2 * a + 1 for a in range(d)))


def pooling():
    rng = seeded("pooling")
    rows = [  # shape, window, stride, padding, dilation
        ((1, 2, 6), [2], [2], [0], [1]), ((2, 7), [3], [2], [1], [1]), ((1, 1, 6), [3], [1], [0], [1]), ((8,), [2], [3], [1], [1]),
        ((1, 1, 4, 4), [2, 2], [2, 2], [0, 0], [1, 1]), ((1, 1, 5, 4), [3, 2], [2, 2], [1, 1], [1, 1]), ((1, 2, 4, 4), [3, 3], [1, 1], [1, 1], [1, 1]), ((2, 5, 5), [2, 3], [1, 2], [0, 1], [1, 1]),
        ((1, 1, 3, 4, 4), [2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1]), ((1, 3, 3, 3), [2, 2, 2], [1, 2, 1], [1, 0, 1], [1, 1, 1]),
        ((1, 1, 9), [3], [1], [0], [2]), ((1, 6, 6), [2, 2], [2, 1], [1, 0], [2, 3]), ((1, 4, 3, 4), [2, 2, 2], [1, 1, 1], [0, 1, 1], [2, 1, 2]),
    ]
    for shape, window, stride, padding, dilation in rows:
        lead = len(shape) - len(window)
        full = lambda v, f: (f,) * lead + tuple(v)

        def reference(x, start, op):
            pads = [(0, 0)] * lead + [(p, p) for p in padding]
            return lax.reduce_window(x, start, op, full(window, 1), full(stride, 1), pads, None, full(dilation, 1))

        case("max_pool", {"window": window, "stride": stride, "padding": padding, "dilation": dilation}, [distinct(rng, *shape)],
             lambda x: pool(x, window, stride, padding, dilation, -jnp.inf, jnp.max), [0], ref=lambda x: np.asarray(reference(x, -np.inf, lax.max)))
        if max(dilation) == 1:
            count = float(np.prod(window))
            case("avg_pool", {"window": window, "stride": stride, "padding": padding}, [normal(rng, *shape)],
                 lambda x: pool(x, window, stride, padding, dilation, 0.0, jnp.sum) / count, [0], ref=lambda x: np.asarray(reference(x, 0.0, lax.add)) / count)


# ---------------------------------------------------------------- linear algebra

def half(a):
    return (a + a.swapaxes(-1, -2)) / 2


def linalg():
    rng = seeded("linalg")

    def positive(*shape, skew=False):
        m = rng.standard_normal(shape)
        a = m @ m.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])
        a = np.round(a, 3)
        a = np.tril(a) + np.tril(a, -1).swapaxes(-1, -2)
        return np.round(a + np.triu(rng.uniform(-0.2, 0.2, shape), 1), 3) if skew else a

    def chol(a):
        return lax.linalg.cholesky(half(a), symmetrize_input=False)

    def chol_solve(a, b):
        l = chol(a)
        z = lax.linalg.triangular_solve(l, b, left_side=True, lower=True)
        return lax.linalg.triangular_solve(l, z, left_side=True, lower=True, transpose_a=True)

    sym = {"symmetrize": True}
    shapes = [(1, 1), (2, 2), (3, 3), (4, 4), (2, 3, 3), (2, 1, 2, 2)]
    skewed = "A is not symmetric: only (A + Aᵀ)/2 counts"
    for shape, skew in [(s, False) for s in shapes] + [((3, 3), True)]:
        note = skewed if skew else None
        case("cholesky", sym, [positive(*shape, skew=skew)], chol, [0], ref=lambda a: np.linalg.cholesky(half(a)), note=note)
        case("logdet_spd", sym, [positive(*shape, skew=skew)], lambda a: 2 * jnp.sum(jnp.log(jnp.diagonal(chol(a), axis1=-2, axis2=-1)), -1), [0],
             ref=lambda a: np.linalg.slogdet(half(a))[1], note=note)
        case("inverse_spd", sym, [positive(*shape, skew=skew)], lambda a: chol_solve(a, jnp.broadcast_to(jnp.eye(a.shape[-1]), a.shape)), [0], ref=lambda a: np.linalg.inv(half(a)), note=note)
        b = normal(rng, *shape[:-1], 2)
        case("solve_spd", sym, [positive(*shape, skew=skew), b], chol_solve, [0, 1], ref=lambda a, b: np.linalg.solve(half(a), b), note=note)
    for lower, transpose, unit in itertools.product([True, False], repeat=3):
        for shape, k in [((3, 3), 2)] + ([((2, 2, 2), 1)] if unit != transpose else []):
            a = normal(rng, *shape)
            a = np.round(a + np.sign(np.eye(shape[-1]) * a) * 1.5, 4)

            def by_hand(a, b):
                flat = [scipy.linalg.solve_triangular(p, q, trans=int(transpose), lower=lower, unit_diagonal=unit) for p, q in zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))]
                return np.stack(flat).reshape(b.shape)
            case("triangular_solve", {"lower": lower, "transpose": transpose, "unit": unit}, [a, normal(rng, *shape[:-1], k)],
                 lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=lower, transpose_a=transpose, unit_diagonal=unit), [0, 1], ref=by_hand)
            if CASES and CASES[-1]["op"] == "triangular_solve":
                g = np.array(CASES[-1]["gradients"][0]["data"]).reshape(shape)
                k0 = -1 if unit else 0
                assert np.array_equal(g, np.tril(g, k0) if lower else np.triu(g, -k0)), "gradient outside the triangle"


# ---------------------------------------------------------------- losses and normalisation

def layer_norm(x, scale, bias, eps):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + eps) * scale + bias


def cross_entropy(logits, targets):
    logp = jax.nn.log_softmax(logits, -1)
    return -jnp.mean(jnp.take_along_axis(logp, targets[..., None], -1))


def losses():
    rng = seeded("losses")
    for shape, eps in [((4,), 1e-5), ((2, 4), 1e-5), ((2, 3, 5), 1e-6), ((3, 2), 1e-3)]:
        case("layer_norm", {"eps": eps}, [normal(rng, *shape), normal(rng, shape[-1]), normal(rng, shape[-1])], lambda x, s, b: layer_norm(x, s, b, eps), [0, 1, 2],
             ref=lambda x, s, b: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * s + b)
    for shape, eps in [((4,), 1e-6), ((2, 3), 1e-5), ((2, 2, 3), 1e-6)]:
        case("rms_norm", {"eps": eps}, [normal(rng, *shape), normal(rng, shape[-1])], lambda x, s: x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * s, [0, 1])
    for n, c, scale in [(1, 3, 1), (4, 3, 1), (3, 5, 3), (2, 2, 1)]:
        case("cross_entropy", {}, [np.round(normal(rng, n, c) * scale, 4), rng.integers(0, c, n)], cross_entropy, [0],
             ref=lambda x, t: np.mean([np.log(np.exp(r).sum()) - r[k] for r, k in zip(x, t)]))
    case("cross_entropy", {}, [np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 5.0]]), ints([0, 2])], cross_entropy, [0], check=False, note="large logits")
    for shape in [(4,), (2, 3)]:
        case("mse", {}, [normal(rng, *shape), normal(rng, *shape)], lambda a, b: jnp.mean((a - b) ** 2), [0, 1], ref=lambda a, b: np.mean((a - b) ** 2))
    for shape, axis in [((4,), 0), ((2, 3), 1), ((3, 2), 0), ((2, 3, 2), 1)]:
        case("normalize", {"axis": axis, "eps": 1e-12}, [normal(rng, *shape)], lambda x: x / jnp.maximum(jnp.sqrt(jnp.sum(x * x, axis, keepdims=True)), 1e-12), [0],
             ref=lambda x: x / np.linalg.norm(x, axis=axis, keepdims=True))
    for shape, axis, eps in [((4,), 0, 1e-5), ((2, 5), 1, 1e-5), ((4, 2), 0, 1e-3), ((2, 3, 2), -2, 1e-6)]:
        case("standardize", {"axis": axis, "eps": eps}, [normal(rng, *shape)], lambda x: (x - jnp.mean(x, axis, keepdims=True)) / jnp.sqrt(jnp.var(x, axis, keepdims=True) + eps), [0],
             ref=lambda x: (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps))
    for shape in [(4,), (2, 3)]:
        case("bce_with_logits", {}, [normal(rng, *shape) * 2, (rng.random(shape) < 0.5).astype(float)], lambda z, y: jnp.mean(softplus(z) - y * z), [0, 1],
             ref=lambda z, y: np.mean(np.log1p(np.exp(z)) - y * z))
    for delta in [1.0, 0.5]:
        p, q = distinct(rng, 6), np.zeros(6)
        case("huber", {"delta": delta}, [away(p, -delta, delta), q],
             lambda a, b: jnp.mean(jnp.where(jnp.abs(a - b) <= delta, 0.5 * (a - b) ** 2, delta * (jnp.abs(a - b) - 0.5 * delta))), [0, 1])


# ---------------------------------------------------------------- programs

def program(name, formula, inputs, fn, wrt, **options):
    case(f"program:{name}", {"formula": formula}, inputs, fn, wrt, **options)


def programs():
    rng = seeded("programs")
    n = lambda *s: normal(rng, *s)
    small = lambda *s: np.round(normal(rng, *s) * 0.5, 4)

    program("mlp_tanh_mse", "inputs x[4,3] w1[3,5] b1[5] w2[5,2] b2[2] y[4,2]; out = mean((tanh(x@w1 + b1)@w2 + b2 - y)^2)",
            [n(4, 3), n(3, 5), n(5), n(5, 2), n(2), n(4, 2)], lambda x, w1, b1, w2, b2, y: jnp.mean((jnp.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2), [0, 1, 2, 3, 4])
    program("mlp_gelu_cross_entropy", "inputs x[4,3] w1[3,4] b1[4] w2[4,3] b2[3] t:i64[4]; out = cross_entropy(gelu(x@w1 + b1)@w2 + b2, t), gelu exact, mean over rows",
            [n(4, 3), n(3, 4), n(4), n(4, 3), n(3), ints([0, 2, 1, 2])],
            lambda x, w1, b1, w2, b2, t: cross_entropy(jax.nn.gelu(x @ w1 + b1, approximate=False) @ w2 + b2, t), [0, 1, 2, 3, 4])

    def attention(q, k, v):
        s = jnp.einsum("hqd,hkd->hqk", q, k) / math.sqrt(q.shape[-1])
        t = q.shape[1]
        s = jnp.where(np.tril(np.ones((t, t), bool)), s, -jnp.inf)
        return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(s, -1), v)

    program("attention_causal", "inputs q[2,3,4] k[2,3,4] v[2,3,4] (heads, time, width); s = q@k^T / sqrt(4); entries with key > query set to -inf; out = softmax(s, last axis)@v",
            [n(2, 3, 4), n(2, 3, 4), n(2, 3, 4)], attention, [0, 1, 2])
    program("attention_self", "inputs x[3,4] wq[4,4] wk[4,4] wv[4,4] wo[4,4]; q = x@wq, k = x@wk, v = x@wv; out = x + softmax(q@k^T / sqrt(4), last axis)@v@wo",
            [n(3, 4), small(4, 4), small(4, 4), small(4, 4), small(4, 4)],
            lambda x, wq, wk, wv, wo: x + jax.nn.softmax((x @ wq) @ (x @ wk).T / 2.0, -1) @ (x @ wv) @ wo, [0, 1, 2, 3, 4])

    def lstm(xs, h, c, wx, wh, b):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ wx + h @ wh + b, 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            return (h, c), h
        return lax.scan(step, (h, c), xs)[1]

    program("lstm", "inputs xs[4,2,3] (time, batch, features) h0[2,2] c0[2,2] wx[3,8] wh[2,8] b[8]; per step z = x@wx + h@wh + b, split z in four along the last axis: i f g o; "
            "c = sigmoid(f)*c + sigmoid(i)*tanh(g); h = sigmoid(o)*tanh(c); out[4,2,2] = all h",
            [n(4, 2, 3), n(2, 2), n(2, 2), n(3, 8), n(2, 8), n(8)], lstm, [0, 1, 2, 3, 4, 5])

    def gru(x, h, wx, wh, bx, bh):
        rx, zx, nx = jnp.split(x @ wx + bx, 3, -1)
        rh, zh, nh = jnp.split(h @ wh + bh, 3, -1)
        r, z = sigmoid(rx + rh), sigmoid(zx + zh)
        return (1 - z) * jnp.tanh(nx + r * nh) + z * h

    program("gru_step", "inputs x[2,3] h[2,2] wx[3,6] wh[2,6] bx[6] bh[6]; split x@wx + bx in three along the last axis: rx zx nx, and h@wh + bh: rh zh nh; "
            "r = sigmoid(rx+rh); z = sigmoid(zx+zh); out = (1-z)*tanh(nx + r*nh) + z*h", [n(2, 3), n(2, 2), n(3, 6), n(2, 6), n(6), n(6)], gru, [0, 1, 2, 3, 4, 5])
    program("rnn_scan", "inputs xs[5,2] h0[3] wx[2,3] wh[3,3] b[3]; five steps h = tanh(x_t@wx + h@wh + b); out = the last h",
            [n(5, 2), n(3), n(2, 3), n(3, 3), n(3)],
            lambda xs, h, wx, wh, b: lax.scan(lambda h, x: (jnp.tanh(x @ wx + h @ wh + b), None), h, xs)[0], [0, 1, 2, 3, 4])

    def batch_norm(x, scale, bias):
        axes = (0,) + tuple(range(2, x.ndim))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, var = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale.reshape(shape) + bias.reshape(shape)

    program("batch_norm_train", "inputs x[5,3] scale[3] bias[3]; mean and biased variance over axis 0; out = (x-mean)/sqrt(var + 1e-5)*scale + bias", [n(5, 3), n(3), n(3)], batch_norm, [0, 1, 2])
    program("batch_norm_train_4d", "inputs x[2,2,2,3] scale[2] bias[2]; mean and biased variance over axes 0,2,3 per channel (axis 1); out = (x-mean)/sqrt(var + 1e-5)*scale + bias",
            [n(2, 2, 2, 3), n(2), n(2)], batch_norm, [0, 1, 2])
    program("logistic_regression", "inputs x[5,3] w[3] b[] y[5] (0 or 1); z = x@w + b; out = mean(softplus(z) - y*z) + 0.05*sum(w^2)",
            [n(5, 3), n(3), n(), np.array([1.0, 0.0, 1.0, 1.0, 0.0])], lambda x, w, b, y: jnp.mean(softplus(x @ w + b) - y * (x @ w + b)) + 0.05 * jnp.sum(w * w), [0, 1, 2])
    program("x_pow_x", "input x[5] > 0; out = pow(x, x)", [uniform(rng, 0.3, 2.5, 5)], lambda x: x**x, [0])
    program("logsumexp_trick", "input x[2,4]; m = stop_gradient(max(x, axis 1, keepdims)); out = (m + log(sum(exp(x-m), axis 1, keepdims))) of shape [2,1]",
            [n(2, 4) * 3], lambda x: (lambda m: m + jnp.log(jnp.sum(jnp.exp(x - m), 1, keepdims=True)))(lax.stop_gradient(jnp.max(x, 1, keepdims=True))), [0])
    program("rational", "input x[6]; out = (1 + 2*x + x^2*3) / (1 + x^2 + x^4)", [n(6)], lambda x: (1 + 2 * x + 3 * x**2) / (1 + x**2 + x**4), [0])
    program("rosenbrock", "input x[5]; out = sum over i<4 of 100*(x[i+1] - x[i]^2)^2 + (1 - x[i])^2", [n(5)], lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), [0])

    def conv_net(x, k, kb, w, b, t):
        h = jax.nn.gelu(conv_jax(x, k, [1, 1], [(1, 1), (1, 1)], [1, 1], [1, 1], 1) + kb.reshape(1, -1, 1, 1), approximate=False)
        h = h.reshape(2, 2, 2, 2, 2, 2).mean((3, 5)).reshape(2, -1)
        return cross_entropy(h @ w + b, t)

    program("conv_net", "inputs x[2,1,4,4] k[2,1,3,3] kb[2] w[8,3] b[3] t:i64[2]; h = gelu(conv(x, k, stride 1, pad 1) + kb per channel), exact gelu; "
            "average pool 2x2 stride 2; flatten to [2,8]; out = cross_entropy(h@w + b, t)", [n(2, 1, 4, 4), n(2, 1, 3, 3), n(2), n(8, 3), n(3), ints([2, 0])], conv_net, [0, 1, 2, 3, 4])

    def gauss(x, mu, a):
        l = lax.linalg.cholesky(half(a), symmetrize_input=False)
        z = lax.linalg.triangular_solve(l, (x - mu).T, left_side=True, lower=True)
        return -0.5 * jnp.sum(z * z, 0) - jnp.sum(jnp.log(jnp.diagonal(l))) - 1.5 * math.log(2 * math.pi)

    m = rng.standard_normal((3, 3))
    cov = np.round(m @ m.T + 3 * np.eye(3), 3)
    cov = np.tril(cov) + np.tril(cov, -1).T
    program("gaussian_log_density", "inputs x[4,3] mu[3] A[3,3]; L = cholesky((A+A^T)/2); z = L^-1 (x-mu)^T; out[4] = -0.5*sum(z^2, axis 0) - sum(log diag L) - 1.5*log(2*pi)",
            [n(4, 3), n(3), cov], gauss, [0, 1, 2])
    program("pre_norm_block", "inputs x[2,4] s[4] c[4] w1[4,6] b1[6] w2[6,4] b2[4]; out = x + gelu_tanh(layer_norm(x, s, c, eps 1e-5)@w1 + b1)@w2 + b2",
            [n(2, 4), n(4), n(4), small(4, 6), small(6), small(6, 4), small(4)],
            lambda x, s, c, w1, b1, w2, b2: x + jax.nn.gelu(layer_norm(x, s, c, 1e-5) @ w1 + b1, approximate=True) @ w2 + b2, [0, 1, 2, 3, 4, 5, 6])
    program("embedding_bag", "inputs table[5,3] i:i64[2,4] t:i64[2]; e = mean of table[i] over axis 1, [2,3]; out = cross_entropy(e@table^T, t)",
            [n(5, 3), ints([[0, 3, 3, 1], [4, 4, 4, 2]]), ints([1, 4])], lambda e, i, t: cross_entropy(jnp.mean(e[i], 1) @ e.T, t), [0])

    def newton(a):
        y = (1 + a) / 2
        for _ in range(5):
            y = 0.5 * (y + a / y)
        return y

    program("newton_sqrt", "input a[4] > 0; y = (1+a)/2; five times y = 0.5*(y + a/y); out = y", [uniform(rng, 0.5, 5, 4)], newton, [0])

    def info_nce(a, b):
        a = a / jnp.sqrt(jnp.sum(a * a, 1, keepdims=True))
        b = b / jnp.sqrt(jnp.sum(b * b, 1, keepdims=True))
        s = a @ b.T / 0.5
        t = jnp.arange(3)
        return 0.5 * (cross_entropy(s, t) + cross_entropy(s.T, t))

    program("info_nce", "inputs a[3,4] b[3,4]; rows divided by their L2 norms; s = a@b^T / 0.5; t = 0,1,2; out = 0.5*(cross_entropy(s, t) + cross_entropy(s^T, t))", [n(3, 4), n(3, 4)], info_nce, [0, 1])
    program("fourier_features", "inputs x[3,2] f[2,4] w[8]; z = x@f; out[3] = concat(sin z, cos z, last axis)@w", [n(3, 2), n(2, 4), n(8)],
            lambda x, f, w: jnp.concatenate([jnp.sin(x @ f), jnp.cos(x @ f)], -1) @ w, [0, 1, 2])

    def rk4(y, p):
        f = lambda y: jnp.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])
        for _ in range(4):
            k1 = f(y); k2 = f(y + 0.05 * k1); k3 = f(y + 0.05 * k2); k4 = f(y + 0.1 * k3)
            y = y + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y

    program("lotka_volterra_rk4", "inputs y[2] p[4]; f(y) = [p0*y0 - p1*y0*y1, p2*y0*y1 - p3*y1]; four Runge-Kutta-4 steps of h = 0.1; out = y",
            [np.array([1.2, 0.7]), np.array([1.1, 0.4, 0.1, 0.4])], rk4, [0, 1])

    def power_iteration(a, v):
        for _ in range(4):
            v = a @ v
            v = v / jnp.sqrt(jnp.sum(v * v))
        return v @ a @ v

    program("power_iteration", "inputs A[3,3] v[3]; four times v = A@v, v = v/norm(v); out = v@A@v", [cov + np.round(rng.standard_normal((3, 3)) * 0.2, 3), n(3)], power_iteration, [0, 1])
    program("double_where", "input x[5]; safe = where(x > 0, x, 1); out = where(x > 0, sqrt(safe), 0)", [np.array([0.5, -1.0, 2.0, 0.0, -0.3])],
            lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), [0], check=False, note="gradient 0 where x <= 0, no NaN")
    program("stop_gradient", "input x[4]; out = x * stop_gradient(tanh(x))", [n(4)], lambda x: x * lax.stop_gradient(jnp.tanh(x)), [0], check=False, note="hvp = 0 by the same reading")

    def penalty(x, w):
        g = jax.vmap(jax.grad(lambda r: jnp.sum(jnp.tanh(r @ w) ** 2)))(x)
        return jnp.mean((jnp.sqrt(jnp.sum(g * g, 1)) - 1) ** 2)

    program("gradient_penalty", "inputs x[3,2] w[2,4]; f(r) = sum(tanh(r@w)^2) for each row r of x; g = df/dr [3,2], = 2*(t*(1-t^2))@w^T with t = tanh(x@w); out = mean((sqrt(sum(g^2, axis 1)) - 1)^2)",
            [n(3, 2), n(2, 4)], penalty, [0, 1], note="differentiates a gradient; the hvp is a third derivative")
    program("label_smoothing", "inputs z[3,4] t:i64[3]; q = 0.9*onehot(t) + 0.1/4; out = -mean over rows of sum(q*log_softmax(z, 1), axis 1)", [n(3, 4) * 2, ints([3, 0, 0])],
            lambda z, t: -jnp.mean(jnp.sum((0.9 * jax.nn.one_hot(t, 4, dtype=jnp.float64) + 0.025) * jax.nn.log_softmax(z, 1), 1)), [0])
    program("mixture_density", "inputs x[4] p[3] mu[3] s[3]; out = mean over i of -logsumexp_k(log_softmax(p)_k - 0.5*((x_i-mu_k)/exp(s_k))^2 - s_k)", [n(4), n(3), n(3), small(3)],
            lambda x, p, mu, s: -jnp.mean(jax.nn.logsumexp(jax.nn.log_softmax(p) - 0.5 * ((x[:, None] - mu) / jnp.exp(s)) ** 2 - s, 1)), [0, 1, 2, 3])
    program("product_of_many", "input x[30]; out = a fold y = y*x[i] + sin(y) from y = 0.5, thirty times", [uniform(rng, -1, 1, 30)],
            lambda x: lax.scan(lambda y, v: (y * v + jnp.sin(y), None), jnp.float64(0.5), x)[0], [0])
    program("kernel_ridge", "inputs x[4,2] y[4] l[]; K = exp(-sum((x_i-x_j)^2)/(2*exp(2*l))) + 0.1*I; out = 0.5*y@K^-1@y + 0.5*logdet K", [n(4, 2), n(4), np.array(0.2)],
            lambda x, y, l: (lambda k: 0.5 * y @ jnp.linalg.solve(k, y) + 0.5 * jnp.linalg.slogdet(k)[1])(
                jnp.exp(-jnp.sum((x[:, None] - x[None]) ** 2, -1) / (2 * jnp.exp(2 * l))) + 0.1 * jnp.eye(4)), [0, 1, 2])
    program("shared_input", "input x[3]; y = x*x; z = y + y*x; out = sum(z)*z/(1 + y)", [n(3)], lambda x: (lambda y: (lambda z: jnp.sum(z) * z / (1 + y))(y + y * x))(x * x), [0])


# ---------------------------------------------------------------- all of it

def conventions():
    """Where finite differences have no say, the stated convention does; no gradient is NaN."""
    back = lambda t: np.array(t["data"], dtype=float).reshape(t["shape"])  # float("inf") reads the strings
    seen = set()
    for c in CASES:
        if not c["wrt"]:
            continue
        note, x, w = c.get("note", ""), back(c["inputs"][0]), back(c["weight"])
        grads = [back(g) for g in c["gradients"]]
        assert not any(np.isnan(g).any() for g in grads), f"{c['id']}: a NaN gradient"
        if note == "ties share the gradient equally":
            if c["op"].startswith("reduce_"):
                axes = None if c["attrs"]["axes"] is None else tuple(c["attrs"]["axes"])
                hit = x == (np.max if c["op"] == "reduce_max" else np.min)(x, axes, keepdims=True)
                wide = w if axes is None else np.expand_dims(w, axes)
                want = [hit / hit.sum(axes, keepdims=True) * wide]
            else:
                a, b = np.broadcast_arrays(x, back(c["inputs"][1]))
                first = np.where(a == b, 0.5, (a > b) == (c["op"] == "maximum"))
                want = [first * w, (1 - first) * w]
                want[1] = want[1].sum() if back(c["inputs"][1]).ndim == 0 else want[1]
        elif note == "|x|'(0) = 0":
            want = [np.sign(x) * w]
        elif note == "relu'(0) = 0":
            want = [(x > 0) * w]
        elif c["op"] == "program:stop_gradient":
            want = [np.tanh(x) * w]
        elif c["op"] == "program:double_where":
            want = [np.where(x > 0, 0.5 / np.sqrt(np.where(x > 0, x, 1)), 0) * w]
        else:
            continue
        seen.add(note)
        for g, v in zip(grads, want):
            close(g, v, 1e-15, 0, f"{c['id']} convention")
    assert ONLY or len(seen) == 5, seen


def main():
    for section in [unary, binary, comparisons, activations, reductions, movement, indexing, dot, conv, conv_transpose, pooling, linalg, losses, programs]:
        before = len(CASES)
        section()
        print(f"{section.__name__:16} {len(CASES) - before:4} cases", flush=True)
    conventions()
    print("checks:", CHECKS)
    if FAILURES:
        sys.exit("\n".join(FAILURES))
    if ONLY:
        return
    dump = lambda c: json.dumps(c, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = "[\n" + ",\n".join(map(dump, CASES)) + "\n]\n"
    with open(os.path.join(HERE, "goldens.json"), "w") as f:
        f.write(text)
    print(f"{len(CASES)} cases, {len(text.encode()) / 1e6:.2f} MB")
    for op, count in COUNT.items():
        print(f"  {op:28}{count:4}  {sorted({k for c in CASES if c['op'] == op for k in c['attrs']})}")


if __name__ == "__main__":
    main()
