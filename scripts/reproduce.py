#!/usr/bin/env python3
"""Runs what docs/reproductions.md shows: our side, and PyTorch's on the same data, architecture and schedule.

    python3 scripts/reproduce.py                        # all that the results do not have yet
    python3 scripts/reproduce.py --list
    python3 scripts/reproduce.py --only newton-logistic vae --side chainrule
    python3 scripts/reproduce.py --quick                # a few steps of everything, to see that it works; keeps nothing
    python3 scripts/reproduce.py --write                # the page and its pictures from the results there are

As many trainings run at once as there are cores, each on one thread: networks of this size share cores better so than
within a step, and threads of PyTorch that wait for each other take processor time. It goes on where it was stopped: Ctrl-C
ends it after what it has is saved, and a recipe that was in its middle is gone on with from its checkpoint. PyTorch's side
needs torch and numpy: in the environment that --venv names, or in this Python.
"""
import argparse, collections, concurrent.futures, contextlib, json, os, shutil, signal, subprocess, sys, tempfile, threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "reproductions"))
import page  # noqa: E402
from table import LINES  # noqa: E402

SIDES = ("chainrule", "pytorch")


class Stopped(Exception):
    """Ctrl-C or the failure of another job, after the child has saved what it had."""


class Results:
    """Figures by line, side and seed, in a file that is written whole or not at all."""

    def __init__(self, path):
        self.path, self.all, self.lock = path, {}, threading.Lock()
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.all = json.load(file)

    def of(self, line, side):
        return self.all.get(line.name, {}).get(side, {})

    def put(self, line, side, seed, result):
        with self.lock:
            self.all.setdefault(line.name, {}).setdefault(side, {})[str(seed)] = rounded(result)
            if self.path:
                with open(self.path + ".new", "w", encoding="utf-8") as file:
                    json.dump(self.all, file, indent=1, sort_keys=True, ensure_ascii=False)
                    file.write("\n")
                os.replace(self.path + ".new", self.path)


def rounded(value):
    """Numbers to six digits: the file is to be read."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


class Runner:
    def __init__(self, a, results):
        self.a, self.results = a, results
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        self.bin, self.examples = os.path.join(target, "release", "chainrule"), os.path.join(target, "release", "examples")
        self.work = tempfile.mkdtemp() if a.quick else os.path.join(target, "reproductions")
        self.python = os.path.join(a.venv, "bin", "python") if a.venv else sys.executable
        threads = str(max(1, (os.cpu_count() or 1) // a.jobs))
        self.environment = {**os.environ, "CHAINRULE_THREADS": threads, "OMP_NUM_THREADS": threads}
        self.children, self.stopping, self.lock = set(), False, threading.Lock()
        self.job_of = threading.local()  # `seconds` of processor time that the thread's job has taken so far
        self.trainings = collections.defaultdict(threading.RLock)  # by folder: two jobs may want the classifier

    def build(self):
        for what in (["-p", "chainrule-cli"], ["-p", "chainrule-train", "--examples"]):
            subprocess.run(["cargo", "build", "--quiet", "--release", *what], cwd=ROOT, check=True)

    def has_torch(self):
        return subprocess.run([self.python, "-c", "import torch, numpy"], capture_output=True).returncode == 0

    def call(self, command):
        """The JSON that a command prints last. Its exit code may be 1 where a training is lost."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with self.lock:
                if self.stopping:
                    raise Stopped
                # In a group of its own, so that it hears of Ctrl-C once, from here: a second one would end it unsaved.
                child = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=out,
                                         stderr=None if self.a.verbose else err, start_new_session=True)
                self.children.add(child)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            # Processor time, since what a program takes of it does not depend on who shares the cores.
            self.job_of.seconds = getattr(self.job_of, "seconds", 0.0) + used.ru_utime + used.ru_stime
            self.children.discard(child)
            out.seek(0), err.seek(0)
            said, complaint = out.read(), err.read()
        if child.returncode == 1 and (self.a.verbose or "became" in complaint):
            return {"diverged": True}
        if child.returncode != 0:
            if self.stopping:
                raise Stopped
            sys.exit(f"{' '.join(command)}\nended with {child.returncode}\n{complaint[-2000:]}")
        return json.loads(said.strip().splitlines()[-1])

    def stop(self):
        """A training saves itself and ends after its step; PyTorch's are lost."""
        with self.lock:
            self.stopping = True
            for child in list(self.children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGINT)

    def folder(self, line, seed):
        return os.path.join(self.work, line.name.replace(" ", "-").replace(",", ""), str(seed))

    def run_of(self, line, seed):
        """The folder of our run of a recipe, if there is one."""
        place = self.folder(line, seed)
        runs = [os.path.join(place, name) for name in os.listdir(place)] if os.path.isdir(place) else []
        return next((run for run in runs if os.path.exists(os.path.join(run, "run.json"))), None)

    def train(self, line, seed, more=()):
        """A recipe, begun or gone on with; its figures."""
        with self.trainings[self.folder(line, seed)]:
            return self.train_alone(line, seed, more)

    def train_alone(self, line, seed, more):
        _, recipe, *settings = line.ours
        place, run = self.folder(line, seed), None if more else self.run_of(line, seed)
        common = ["--json", "--quiet"]
        if run and os.path.exists(os.path.join(run, "report.json")):
            with open(os.path.join(run, "report.json"), encoding="utf-8") as file:
                report = json.load(file)
            if not report["stopped"]:
                return self.figures(report, run)
        if run and os.path.exists(os.path.join(run, "checkpoint.safetensors")):
            report = self.call([self.bin, "train", "--resume", run, *common])
        else:
            shutil.rmtree(place, ignore_errors=True)
            os.makedirs(place)
            few = ["--steps", "3"] if self.a.quick else []
            report = self.call([self.bin, "train", recipe, "--seed", str(seed), "--runs", place, *settings, *more, *few, *common])
        if report.get("diverged"):
            return report
        if report["stopped"]:
            raise Stopped
        return self.figures(report, report["run"])

    def figures(self, report, run):
        test, validation = (report.get("test") or {}).get("numbers", {}), report["validation"]
        found = {"steps": report["steps"], "train_loss": report["train"].get("loss"), "accuracy": test.get("accuracy"),
                 "mean_squared_error": test.get("loss") if "mae" in test else None, "validation_loss": validation.get("loss")}
        losses = []
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
            for record in map(json.loads, file):
                if record["kind"] == "step" and "loss" in record:
                    losses.append((record["epoch"], record["loss"]))
        epochs = {}
        for epoch, loss in losses:
            epochs.setdefault(epoch, []).append(loss)
        if 1 < len(epochs) <= 100:
            found["curve"] = [sum(of) / len(of) for of in epochs.values()]
            found["train_loss"] = found["curve"][-1]
        return {key: value for key, value in found.items() if value is not None}

    def ours(self, line, seed, more=()):
        kind, name, *rest = line.ours
        if kind == "recipe":
            result = self.train(line, seed, more)
            if line.score and not result.get("diverged"):
                result |= self.score(self.run_of(line, seed), seed)
            return result
        command = [os.path.join(self.examples, name), "--seed", str(seed), "--json", *rest]
        return self.call(command + (["--quick"] if self.a.quick else []))

    def theirs(self, line, seed, more=()):
        script, *rest = line.theirs
        few = ["--steps", "3"] if self.a.quick else []
        images = os.path.join(self.work, f"{line.name}-{seed}.npy")
        out = ["--out", images, *(["--count", "500"] if self.a.quick else [])] if line.score else []
        os.makedirs(self.work, exist_ok=True)
        path = os.path.join(HERE, "reproductions", script)
        result = self.call([self.python, path, *rest, "--seed", str(seed), *more, *few, *out])
        return result | self.score(images, seed) if line.score else result

    def score(self, made, seed):
        """What our mnist-cnn of seed 0 says of images; it is trained if it is not there."""
        classifier = next(line for line in LINES if line.name == "mnist-cnn")
        spent = getattr(self.job_of, "seconds", 0.0)
        self.train(classifier, 0)
        self.job_of.seconds = spent
        run = self.run_of(classifier, 0)
        few = ["--count", "500"] if self.a.quick else []
        said = self.call([self.bin, "score", made, "--by", run, "--seed", str(seed), "--json", *few])
        return {key: said[key] for key in ("frechet_distance", "classifier_score", "data_score")}

    def job(self, line, side, seed):
        """The result of one training, or of one for each rate of a sweep."""
        run, self.job_of.seconds = (self.ours if side == "chainrule" else self.theirs), 0.0
        resumes = side == "chainrule" and line.ours[0] == "recipe" and not line.sweep
        try:
            if not line.sweep:
                result = run(line, seed)
            else:
                reached = {}
                for rate in line.sweep[:2] if self.a.quick else line.sweep:
                    reached[str(rate)] = run(line, seed, ["--rate", str(rate)]).get("accuracy")
                well = [rate for rate in line.sweep if (reached.get(str(rate)) or 0) >= 0.9]
                result = {"accuracies": reached, "largest_rate": max(well, default=None)}
        except Stopped:
            if resumes:
                self.spent(line, side, seed)
            raise
        return {**result, "seconds": self.spent(line, side, seed)}

    def spent(self, line, side, seed):
        """Processor seconds of this job, those before a stop included."""
        path = os.path.join(self.work, "seconds.json")
        with self.lock:
            os.makedirs(self.work, exist_ok=True)
            known = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {}
            key = f"{line.name}/{side}/{seed}"
            known[key] = known.get(key, 0.0) + self.job_of.seconds
            with open(path, "w", encoding="utf-8") as file:
                json.dump(known, file)
        return round(known[key], 1)


def chosen(a):
    known = {name for line in LINES for name in (line.row, line.name)}
    for name in a.only or []:
        if name not in known:
            sys.exit(f"there is no row {name!r}; there are: {', '.join(dict.fromkeys(line.row for line in LINES))}")
    return [line for line in LINES if not a.only or line.row in a.only or line.name in a.only]


def show(a, results):
    left = 0.0
    for line in chosen(a):
        parts = []
        for place, side in enumerate(SIDES):
            done = len(results.of(line, side))
            left += max(line.seeds[place] - done, 0) * line.minutes[place]
            parts.append(f"{side} {done} of {line.seeds[place]} (about {line.minutes[place]:g} min each)")
        print(f"{line.name:32} {'   '.join(parts)}")
    print(f"left: about {left / 60:.1f} hours of a core, divided by --jobs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows or lines, by their names")
    parser.add_argument("--side", choices=SIDES, help="one side alone")
    parser.add_argument("--results", default=os.path.join(ROOT, "docs", "reproductions.json"), metavar="FILE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="trainings at once, which share the cores; as many as there are cores if not said")
    parser.add_argument("--venv", metavar="FOLDER", help="a Python environment with torch and numpy")
    parser.add_argument("--write", nargs="?", const=os.path.join(ROOT, "docs", "reproductions.md"), metavar="FILE",
                        help="write the table and the pictures from the results, after what is run; alone it runs nothing")
    parser.add_argument("--list", action="store_true", help="show what there is and what is left")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, keeping nothing")
    parser.add_argument("--verbose", action="store_true", help="show what the trainings say")
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    a = parser.parse_args()
    results = Results(None if a.quick else a.results)
    if a.list:
        return show(a, results)
    runner = Runner(a, results)
    if not (a.write and not a.only and not a.side):
        run_all(a, runner, results)
    if a.write:
        page.write(a.write, results, runner)


def run_all(a, runner, results):
    if not a.no_build:
        runner.build()
    sides = [a.side] if a.side else list(SIDES)
    if "pytorch" in sides and not runner.has_torch():
        print(f"{runner.python} has no torch and numpy: PyTorch's side is left out (see --venv)", file=sys.stderr)
        sides.remove("pytorch")
    jobs = [(line, side, seed) for line in chosen(a) for seed in range(1 if a.quick else max(line.seeds)) for side in sides
            if seed < line.seeds[SIDES.index(side)] and str(seed) not in results.of(line, side)]

    def run(place):
        line, side, seed = jobs[place]
        what = f"[{place + 1} of {len(jobs)}] {line.name}, {side}, seed {seed}"
        print(f"{what} …", flush=True)
        result = runner.job(line, side, seed)
        results.put(line, side, seed, result)
        figures = [page.shown(page.number(result, figure.key), figure.form) for figure in line.figures]
        print(f"{what}: {', '.join(figures)} in {result['seconds']:.0f} s of processor time", flush=True)

    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        running = [pool.submit(run, place) for place in range(len(jobs))]
        try:
            for each in concurrent.futures.as_completed(running):
                each.result()
        except (KeyboardInterrupt, SystemExit) as why:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            runner.stop()
            pool.shutdown(cancel_futures=True)
            if isinstance(why, SystemExit):
                raise
            print("stopped; the same command goes on with it")
            sys.exit(130)


main()
