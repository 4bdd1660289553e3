#!/usr/bin/env python3
"""Functions of elements against PyTorch and JAX, and a fused chain against memcpy, on this machine.

    python3 scripts/bench/elementwise.py [--venv target/peers] [--threads 1]

Ours are timed by `cargo run --release -p chainrule-kernels --example measure -- elementwise`: 65,536 numbers of a normal
distribution that stay in the cache, the best of many runs, in nanoseconds an element. The peers work on as many; JAX is
compiled, and both write into new memory, which they keep for reuse. Prints a table in Markdown.
"""
import argparse, json, re, subprocess, sys
from pathlib import Path

PEER = r'''
import json, math, os, sys, time
threads = sys.argv[1]
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads != '1' else 'false'} intra_op_parallelism_threads={threads}"
import numpy as np, torch, jax, jax.numpy as jnp
torch.set_num_threads(int(threads))
n = 1 << 16
numbers = np.random.default_rng(1).standard_normal(n).astype(np.float32)
x, y = torch.from_numpy(numbers), jnp.asarray(numbers)
r = torch.empty_like(x)
functions = {
    "exp": (lambda: torch.exp(x, out=r), jnp.exp), "tanh": (lambda: torch.tanh(x, out=r), jnp.tanh),
    "sigmoid": (lambda: torch.sigmoid(x, out=r), jax.nn.sigmoid), "erf": (lambda: torch.erf(x, out=r), jax.scipy.special.erf),
    "gelu": (lambda: torch.nn.functional.gelu(x), lambda v: jax.nn.gelu(v, approximate=False)),
    "sin": (lambda: torch.sin(x, out=r), jnp.sin), "log": (lambda: torch.log(x, out=r), jnp.log),
}
def best(f):
    least, begin = math.inf, time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        start = time.perf_counter()
        f()
        least = min(least, time.perf_counter() - start)
    return least * 1e9 / n
found = {}
for name, (t, j) in functions.items():
    compiled = jax.jit(j)
    compiled(y).block_until_ready()
    found[name] = [best(t), best(lambda: compiled(y).block_until_ready())]
print(json.dumps(found))
'''


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--venv", type=Path, default=Path("target/peers"))
    p.add_argument("--threads", type=int, default=1, choices=[1, 2])
    args = p.parse_args()
    measure = ["cargo", "run", "--quiet", "--release", "-p", "chainrule-kernels", "--example", "measure", "--", "elementwise"]
    text = subprocess.run(measure, capture_output=True, text=True, check=True).stdout
    text = text.split("Pool(")[args.threads]
    ours = {name: float(figure) for name, figure in re.findall(r"  (.+): ([\d.]+) (?:ns an element|GB/s)", text)}
    python = args.venv / "bin/python"
    if not python.exists():
        sys.exit(f"no {python}: `scripts/bench/compare.py --install` makes such an environment, --venv names another")
    peers = subprocess.run([python, "-c", PEER, str(args.threads)], capture_output=True, text=True, check=True).stdout
    print("| ns an element | chainrule | PyTorch | JAX | times faster than the best |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (torch, jax) in json.loads(peers).items():
        print(f"| {name} | {ours[name]:.3f} | {torch:.3f} | {jax:.3f} | {min(torch, jax) / ours[name]:.2f} |")
    copy, chain = ours["memcpy of 64 MB"], ours["fused chain over 64 MB"]
    print(f"\nA fused chain over 64 MB moves {chain:.1f} GB/s, memcpy {copy:.1f}: {chain / copy:.0%}.")


main()
