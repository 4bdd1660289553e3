#!/usr/bin/env python3
"""Times `chainrule bench` against PyTorch and JAX, in turn, on this machine, and writes the table.

    python3 scripts/bench/compare.py --peers FOLDER [--install] [--rounds 3] [--seconds 2] [--write docs/performance.md]

Each round runs every peer once on a workload, one after another (A B C A B C ...), so that what the machine does
meanwhile meets all of them; quoted are medians over the rounds of the median step. FOLDER holds the peers' programs:
`torch_bench.py WORKLOAD --threads N --seconds S [--compile]` and `jax_bench.py`, which print one JSON line as
`chainrule bench WORKLOAD --json` does. With --install, PyTorch, JAX and what these need are installed into a virtual
environment (--venv), else they are taken from there. Results are appended to a file as they come (--results): a run that
was stopped goes on where it was.
"""
import argparse, collections, datetime, json, math, os, platform, statistics, subprocess, sys
from pathlib import Path

WORKLOADS = "chain1000 tiny mlp cnn lstm gpt dcgan deep deep_ckpt".split()
PEERS = {"chainrule": "chainrule", "torch": "PyTorch", "compile": "torch.compile", "jax": "JAX"}
MARKS = ("<!-- peers: begin -->", "<!-- peers: end -->")
# What PyTorch's experts set on a CPU.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("workloads", nargs="*", default=WORKLOADS, help="which (all)")
    p.add_argument("--peers", type=Path, required=True, help="folder of torch_bench.py and jax_bench.py")
    p.add_argument("--without", nargs="*", default=[], choices=list(PEERS)[1:], help="peers to leave out")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--venv", type=Path, default=Path("target/peers"))
    p.add_argument("--install", action="store_true")
    p.add_argument("--command", type=Path, default=Path("target/release/chainrule"))
    p.add_argument("--results", type=Path, default=Path("target/peers.jsonl"))
    p.add_argument("--write", type=Path, help="file whose table is replaced")
    return p.parse_args()


def install(venv):
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/pip", "install", "--quiet"]
    subprocess.run([*pip, "numpy", "torch", "jax", "optax"], check=True)


def command(args, peer, workload):
    rest = [workload, "--threads", str(args.threads), "--seconds", str(args.seconds)]
    python = args.venv / "bin/python"
    return {
        "chainrule": [args.command, "bench", *rest, "--json"],
        "torch": [python, args.peers / "torch_bench.py", *rest],
        "compile": [python, args.peers / "torch_bench.py", *rest, "--compile"],
        "jax": [python, args.peers / "jax_bench.py", *rest],
    }[peer]


def measure(args, peer, workload):
    environment = os.environ | (ALLOCATOR if peer in ("torch", "compile") else {})
    run = subprocess.run(command(args, peer, workload), capture_output=True, text=True, env=environment)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode != 0 or not lines:
        print(f"{peer} on {workload}: no result: {(run.stderr.strip().splitlines() or ['nothing said'])[-1]}", file=sys.stderr)
        return {"workload": workload, "failed": True}
    return json.loads(lines[-1])


def collect(args, peers):
    done = collections.Counter()
    results = [json.loads(line) for line in args.results.read_text().splitlines()] if args.results.exists() else []
    for result in results:
        done[result["workload"], result["by"]] += 1
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("a") as file:
        for round in range(args.rounds):
            for workload in args.workloads:
                for peer in peers:
                    if done[workload, peer] > round:
                        continue
                    result = measure(args, peer, workload) | {"by": peer}
                    results.append(result)
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    if "failed" not in result:
                        print(f"round {round + 1}: {workload:10} {PEERS[peer]:14} {result['median_ms']:9.3f} ms", flush=True)
    return results


def versions(args):
    code = "import torch, jax; print(f'PyTorch {torch.__version__.split(\"+\")[0]}, JAX {jax.__version__}')"
    run = subprocess.run([args.venv / "bin/python", "-c", code], capture_output=True, text=True)
    return run.stdout.strip() or "peers unknown"


def machine():
    try:
        info = Path("/proc/cpuinfo").read_text()
        name = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return name


def number(x):
    return f"{x:.3f}" if x < 1 else f"{x:.2f}" if x < 10 else f"{x:.1f}"


def table(args, peers, results):
    by = collections.defaultdict(list)
    for result in results:
        if "failed" not in result:
            by[result["workload"], result["by"]].append(result)
    middle = lambda workload, peer, key: statistics.median(r[key] for r in by[workload, peer])
    others = [peer for peer in peers if peer != "chainrule"]
    head = ["workload", *(f"{PEERS[p]} ms" for p in peers), "times faster than the best", "first step s", "best peer's s", "peak MB", "best peer's MB"]
    rows, ratios = [], []
    for workload in args.workloads:
        known = [p for p in others if by[workload, p]]
        if not by[workload, "chainrule"] or not known:
            continue
        ours = middle(workload, "chainrule", "median_ms")
        ratio = min(middle(workload, p, "median_ms") for p in known) / ours
        ratios.append(ratio)
        cells = [number(middle(workload, p, "median_ms")) if by[workload, p] else "-" for p in peers]
        least = lambda key: number(min(middle(workload, p, key) for p in known))
        rest = [number(middle(workload, "chainrule", key)) for key in ("cold_s", "peak_rss_mb")]
        rows.append([workload, *cells, f"{ratio:.2f}", rest[0], least("cold_s"), rest[1], least("peak_rss_mb")])
    if not rows:
        sys.exit("compare: nothing to compare")
    mean = math.exp(statistics.mean(map(math.log, ratios)))
    lines = [f"| {' | '.join(cells)} |" for cells in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]
    today = datetime.date.today().isoformat()
    counts = {p: max((len(by[w, p]) for w in args.workloads), default=0) for p in peers}
    fewer = ", ".join(f"{PEERS[p]} {n}" for p, n in counts.items() if n < max(counts.values()))
    rounds = f"{max(counts.values())} rounds in turn" + (f" ({fewer})" if fewer else "")
    text = f"{machine()}, {args.threads} threads, {versions(args)}, {today}; medians of {rounds}."
    return "\n".join([text, "", *lines, "", f"Geometric mean of the times faster: {mean:.2f}."])


def main():
    args = arguments()
    unknown = [w for w in args.workloads if w not in WORKLOADS]
    if unknown:
        sys.exit(f"compare: there is no workload {unknown[0]}; there are {' '.join(WORKLOADS)}")
    if args.install:
        install(args.venv)
    for needed in (args.command, args.venv / "bin/python", args.peers / "torch_bench.py", args.peers / "jax_bench.py"):
        if not needed.exists():
            sys.exit(f"compare: {needed} is not there (build with cargo build --release; install with --install)")
    peers = [p for p in PEERS if p not in args.without]
    text = table(args, peers, collect(args, peers))
    print(text)
    if args.write:
        page = args.write.read_text()
        if MARKS[0] not in page or MARKS[1] not in page:
            sys.exit(f"compare: {args.write} has no lines {MARKS[0]} and {MARKS[1]}")
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        args.write.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


main()
