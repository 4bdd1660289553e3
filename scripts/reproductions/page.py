"""The page of the reproductions: its table and its pictures, from the results."""
import json, math, os, subprocess
from table import LINES

BEGIN, END = "<!-- table: written by scripts/reproduce.py -->", "<!-- end of the table -->"


def number(result, key):
    """The number at a path; none where a training was lost."""
    for part in key.split("."):
        result = result.get(part) if isinstance(result, dict) else None
    return result


def shown(value, form):
    if value is None:
        return "none" if form == "plain" else "lost"
    if form == "percent":
        return f"{100 * value:.2f} %"
    if form == "power":
        return f"{value:.1e}"
    return f"{value:g}" if form == "plain" else f"{value:.4g}"


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def cell(values, form):
    """Mean, and the extremes where there are several."""
    if not values:
        return "–"
    known = [value for value in values if value is not None]
    if not known:
        none = shown(None, form)
        return none if len(values) == 1 else f"{none} in all {len(values)}"
    text = shown(mean(known), form)
    if len(known) > 1:
        text += f" ({shown(min(known), form)} to {shown(max(known), form)})"
    return text + (f", lost in {len(values) - len(known)}" if len(known) < len(values) else "")


def wanted(figure):
    if figure.least is not None:
        return f"≥ {shown(figure.least, figure.form)}"
    if figure.most is not None:
        return f"≤ {shown(figure.most, figure.form)}"
    if figure.within is not None:
        far = f"{100 * figure.within:g} points" if figure.form == "percent" else f"{figure.within:g}"
        return f"within {far} of {figure.like or 'PyTorch'}"
    if figure.over or figure.under:
        return f"above that of {figure.over}" if figure.over else f"below that of {figure.under}"
    return "no worse than PyTorch's seeds" if figure.spread else "–"


def holds(figure, ours, theirs, like):
    """Whether the bar is reached; None where that cannot be said yet."""
    if not ours:
        return None
    middle = mean(ours)
    if figure.least is not None:
        # A training that was lost is as wrong as can be.
        return True if middle is None and figure.key.endswith("error") else (middle or 0) >= figure.least
    if figure.most is not None:
        return None not in ours and middle <= figure.most
    if figure.within is not None:
        other = mean(like if figure.like else theirs)
        return None if other is None or middle is None else abs(middle - other) <= figure.within
    if figure.over or figure.under:
        other = mean(like)
        return None if other is None or middle is None else (middle > other if figure.over else middle < other)
    if figure.spread and theirs and middle is not None and len(theirs) > 1:
        return middle <= max(theirs) if figure.spread == "less" else middle >= min(theirs)
    return None


def clock(results):
    seconds = [result["seconds"] for result in results.values() if "seconds" in result]
    if not seconds:
        return "–"
    each = sum(seconds) / len(seconds)
    return f"{each:.0f} s" if each < 120 else f"{each / 60:.0f} min"


def table(results):
    rows = ["| line | figure | must be | chainrule | PyTorch | holds | seeds | processor time each |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for line in LINES:
        sides = [results.of(line, side) for side in ("chainrule", "pytorch")]
        for place, figure in enumerate(line.figures):
            ours, theirs = ([number(result, figure.key) for result in side.values()] for side in sides)
            other = next((each for each in LINES if each.name in (figure.like, figure.over, figure.under)), None)
            like = [number(result, figure.key) for result in results.of(other, "chainrule").values()] if other else []
            verdict = {True: "yes", False: "**no**", None: "–"}[holds(figure, ours, theirs, like)]
            bar = wanted(figure) + (f" (paper: {figure.paper})" if figure.paper else "")
            first = [f"`{line.name}`" if place == 0 else "", figure.what, bar, cell(ours, figure.form), cell(theirs, figure.form), verdict]
            last = [f"{len(sides[0])} and {len(sides[1])}", f"{clock(sides[0])} and {clock(sides[1])}"] if place == 0 else ["", ""]
            rows.append(f"| {' | '.join(first + last)} |")
    return "\n".join(rows)


# Pictures

def named(name):
    return next(line for line in LINES if line.name == name)


def curves(results, names, side):
    """The mean curve of each line's seeds."""
    series = []
    for name in names:
        known = [result["curve"] for result in results.of(named(name), side).values() if "curve" in result]
        if known:
            points = [[at + 1, sum(of) / len(of)] for at, of in enumerate(zip(*known))]
            series.append({"name": name, "points": points})
    return series


def depth(results):
    nets = ["plain-20", "plain-56", "resnet-56"]
    panels = [{"title": f"Training loss, {side}", "log": True, "series": curves(results, nets, side)} for side in ("chainrule", "pytorch")]
    return {"title": "Deeper without shortcuts trains worse", "x_label": "epoch", "panels": panels}


def newton(results):
    found = results.of(named("newton-logistic"), "chainrule").get("0", {})
    norms = number(found, "newton.gradient_norms") or []
    series = [{"name": "norm of the gradient", "points": [[at, norm] for at, norm in enumerate(norms)]}] if norms else []
    return {"title": "Newton's method on the digits", "x_label": "step", "panels": [{"title": "Gradient", "log": True, "series": series}]}


def variances(results):
    found = results.of(named("sigmoid-deep"), "chainrule").get("0", {})
    panels = []
    for key, title in [("gradient_variances", "Variance of slopes"), ("activation_variances", "Variance of activations")]:
        for when, epoch in [("at the start", 0), ("at the end", -1)]:
            series = [{"name": kind, "points": [[layer + 1, value] for layer, value in enumerate(of[key][epoch])]}
                      for kind, of in found.items() if isinstance(of, dict) and key in of]
            panels.append({"title": f"{title} {when}", "log": True, "series": series})
    return {"title": "Five hidden layers", "x_label": "hidden layer", "panels": panels}


def rates(results):
    panels = []
    for side in ("chainrule", "pytorch"):
        series = []
        for name in ("no-norm-deep", "no-norm-deep, with batch norm"):
            found = [result["accuracies"] for result in results.of(named(name), side).values()]
            if found:
                points = [[math.log10(float(rate)), mean([of[rate] for of in found]) or 0.0] for rate in found[0]]
                series.append({"name": "batch norm" if "with" in name else "no norm", "points": points})
        panels.append({"title": f"Test accuracy, {side}", "log": False, "series": series})
    return {"title": "Which rates train eight layers of sigmoids", "x_label": "log10 of the rate", "panels": panels}


def write(path, results, runner):
    """The table between the marks of the page, and the pictures of what there are results of."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path} has not the lines {BEGIN} and {END}, between which the table belongs")
    before, rest = text.split(BEGIN, 1)
    text = f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{rest.split(END, 1)[1]}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    folder = os.path.join(os.path.dirname(path), "images")
    for name, picture in [("depth", depth), ("newton", newton), ("variances", variances), ("rates", rates)]:
        picture = picture(results)
        picture["panels"] = [panel for panel in picture["panels"] if panel["series"]]
        if picture["panels"]:
            out = os.path.join(folder, f"reproduction-{name}.svg")
            subprocess.run([os.path.join(runner.examples, "plot"), out], input=json.dumps(picture), text=True, check=True)
    for name in ("dcgan", "wgan-gp"):
        run = runner.run_of(named(name), 0)
        if run and str(0) in results.of(named(name), "chainrule"):
            out = os.path.join(folder, f"reproduction-{name}.png")
            subprocess.run([runner.bin, "sample", run, "--out", out], check=True, stdout=subprocess.DEVNULL)
