"""Writes statistics.json: instance norm with running statistics, and batch norms refreshed for given weights, in f64.

    OMP_NUM_THREADS=1 python make_statistics.py        # made with torch 2.15.0
"""
import json
import pathlib

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
DATA = torch.Generator().manual_seed(5)


def draw(*shape):
    return torch.randn(*shape, generator=DATA)


def flat(tensor):
    return tensor.detach().flatten().tolist()


def instance():
    """Two passes in training, one in evaluation."""
    norm = nn.InstanceNorm1d(3, affine=True, track_running_stats=True, momentum=0.3)
    norm.weight.data, norm.bias.data = draw(3), draw(3)
    xs = [draw(2, 3, 5) * (i + 1) + i for i in range(3)]
    ys = [norm(x) for x in xs[:2]]
    norm.eval()
    ys.append(norm(xs[2]))
    return {"weight": flat(norm.weight), "bias": flat(norm.bias), "inputs": [flat(x) for x in xs],
            "outputs": [flat(y) for y in ys], "mean": flat(norm.running_mean), "var": flat(norm.running_var)}


def refreshed():
    """torch.optim.swa_utils.update_bn over three batches of several sizes, after a pass in training."""
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3), nn.BatchNorm1d(3, momentum=None))
    for parameter in net.parameters():
        parameter.data = draw(*parameter.shape)
    weights = [flat(parameter) for parameter in net.parameters()]
    batches = [draw(n, 4) + n for n in (6, 6, 3)]
    net.train()
    net(batches[0])
    torch.optim.swa_utils.update_bn(batches, net)
    norms = [net[1], net[4]]
    return {"weights": weights, "batches": [flat(x) for x in batches],
            "means": [flat(n.running_mean) for n in norms], "vars": [flat(n.running_var) for n in norms],
            "counts": [n.num_batches_tracked.item() for n in norms]}


golden = {"instance": instance(), "refreshed": refreshed()}
path = pathlib.Path(__file__).with_name("statistics.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
