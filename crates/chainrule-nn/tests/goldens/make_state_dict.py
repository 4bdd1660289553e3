"""The state dict of one PyTorch module that holds every kind of layer with weights, and what each gives for an input.

Made with torch 2.15.0 and safetensors 0.8.0; all in f64, rounded nowhere.

    python make_state_dict.py         writes state_dict.safetensors and state_dict_values.safetensors beside this file
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

net = nn.ModuleDict({
    "linear": nn.Linear(4, 3),
    "plain": nn.Linear(4, 3, bias=False),
    "bilinear": nn.Bilinear(4, 4, 3),
    "embedding": nn.Embedding(7, 4, padding_idx=0),
    "conv1": nn.Conv1d(4, 6, 3, padding=1),
    "conv2": nn.Conv2d(4, 6, (3, 2), stride=2, groups=2),
    "conv3": nn.Conv3d(2, 3, 2),
    "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    "batch": nn.BatchNorm1d(4),
    "layer": nn.LayerNorm((5, 4)),
    "rms": nn.RMSNorm(4, eps=1e-5),
    "group": nn.GroupNorm(2, 4),
    "instance": nn.InstanceNorm1d(4, affine=True),
    "rnn": nn.RNN(4, 3, num_layers=2, batch_first=True),
    "lstm": nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True),
    "gru": nn.GRU(4, 3, batch_first=True, bias=False),
    "attention": nn.MultiheadAttention(4, 2, batch_first=True),
    "cross": nn.MultiheadAttention(4, 2, kdim=6, vdim=6, batch_first=True),
    "encoder": nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "first": nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"),
    "decoder": nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "sequential": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
})
with torch.no_grad():
    for name, tensor in net.state_dict().items():  # statistics, scales and shifts too
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor) * 0.3
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
net.eval()

x, memory = torch.randn(2, 5, 4), torch.randn(2, 3, 6)
channels = x.transpose(1, 2)
image, volume = torch.randn(2, 4, 6, 5), torch.randn(1, 2, 3, 4, 3)
tokens = torch.tensor([[0, 3, 6], [1, 1, 0]])
causal = nn.Transformer.generate_square_subsequent_mask(5)
calls = {name: (x,) for name in "linear plain layer rms rnn lstm gru encoder first sequential".split()}
calls |= {name: (channels,) for name in "conv1 batch group instance".split()}
calls |= {"bilinear": (x, x.flip(1)), "embedding": (tokens,), "conv2": (image,), "conv3": (volume,),
          "transposed": (image,), "attention": (x, x, x), "cross": (x, memory, memory), "decoder": (x, x.flip(1), causal)}
values = {"x": x, "memory": memory, "image": image, "volume": volume, "tokens": tokens}
for name, module in net.items():
    result = module(*calls[name])
    values[f"out.{name}"] = (result[0] if isinstance(result, tuple) else result).detach()

save_file({key: value.contiguous() for key, value in net.state_dict().items()}, HERE / "state_dict.safetensors")
save_file({key: value.contiguous() for key, value in values.items()}, HERE / "state_dict_values.safetensors")
