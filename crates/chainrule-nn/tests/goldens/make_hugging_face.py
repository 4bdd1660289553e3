"""Tiny random GPT-2 and BERT models as Hugging Face writes them, and what PyTorch computes with them in f64.

Made with transformers 5.24.0, torch 2.15.0 and numpy. Nothing is downloaded: the models come from configurations.

    python make_hugging_face.py                   writes hugging_face/ beside this file
    python make_hugging_face.py --check FOLDER    reads the models that the example `hugging_face` wrote to FOLDER/gpt2,
                                                  FOLDER/bert-words and FOLDER/bert-classes, and compares everything
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (AutoModelForCausalLM, BertConfig, BertForMaskedLM, BertForSequenceClassification, GPT2Config,
                          GPT2LMHeadModel)
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

HERE = Path(__file__).parent / "hugging_face"
CLASSES = {"gpt2": GPT2LMHeadModel, "bert-words": BertForMaskedLM, "bert-classes": BertForSequenceClassification}


def models():
    gpt2 = GPT2Config(vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4, n_inner=64, bos_token_id=0,
                      eos_token_id=0, scale_attn_by_inverse_layer_idx=True)
    bert = dict(vocab_size=53, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                max_position_embeddings=20)
    return {"gpt2": gpt2, "bert-words": BertConfig(**bert), "bert-classes": BertConfig(**bert, num_labels=3)}


def write_models():
    for i, (name, config) in enumerate(models().items()):
        torch.manual_seed(i)
        model = CLASSES[name](config)
        with torch.no_grad():
            for parameter in model.parameters():  # biases and normalisations too, which start as zeros and ones
                parameter.add_(torch.randn_like(parameter) * 0.15)
        model.save_pretrained(HERE / name)
        for other in (HERE / name).iterdir():
            if other.name not in ("config.json", "model.safetensors"):
                other.unlink()


def fingerprint(gradient):
    """Two numbers that any other gradient would miss: its product with cosines, and its square."""
    flat = gradient.double().flatten().numpy()
    return [float(flat @ np.cos(1.0 + np.arange(flat.size))), float(flat @ flat)]


def result(model, inputs, labels):
    output = model(**inputs)
    # By hand: the library's own loss for language models computes in f32.
    logits, targets = (output.logits[:, :-1], labels[:, 1:]) if model.config.model_type == "gpt2" else (output.logits, labels)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
    loss.backward()
    gradients = {name: fingerprint(p.grad) for name, p in model.named_parameters()}
    return {
        "inputs": {name: value.tolist() for name, value in inputs.items()},
        "labels": labels.tolist(),
        "logits": output.logits.detach().flatten().tolist(),
        "loss": loss.item(),
        "gradients": gradients,
    }


def load(name, folder):
    return CLASSES[name].from_pretrained(folder / name, attn_implementation="eager").double().eval()


def goldens(folder):
    rng = np.random.default_rng(5)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    draw = lambda high: torch.tensor(rng.integers(1, high, (2, 9)))
    rows = {}

    gpt2, tokens = load("gpt2", folder), draw(61)
    rows["gpt2"] = result(gpt2, {"input_ids": tokens, "attention_mask": mask}, tokens.masked_fill(mask == 0, -100))
    greedy = gpt2.generate(tokens[:1, :5], do_sample=False, max_new_tokens=15, min_new_tokens=15, pad_token_id=0)
    rows["gpt2"]["greedy"] = greedy[0, 5:].tolist()
    scores = torch.tensor(rng.normal(size=(3, 40)) * 2)
    warped = TemperatureLogitsWarper(0.7)(None, scores)
    warped = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(12)(None, warped))
    rows["sampling"] = {"scores": scores.flatten().tolist(), "warped": [str(x) for x in warped.flatten().tolist()]}

    words, tokens = load("bert-words", folder), draw(53).masked_fill(mask == 0, 0)
    kinds = torch.tensor([[0] * 4 + [1] * 5] * 2)
    inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": kinds}
    labels = draw(53).masked_fill(torch.tensor(rng.random((2, 9)) < 0.6), -100)
    rows["bert-words"] = result(words, inputs, labels)
    rows["bert-classes"] = result(load("bert-classes", folder), inputs, torch.tensor([2, 0]))
    return rows


def check(folder):
    for name, kind in CLASSES.items():
        model, info = kind.from_pretrained(folder / name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], (name, info)
        here = kind.from_pretrained(HERE / name).state_dict()
        there = model.state_dict()
        assert here.keys() == there.keys(), name
        assert all(torch.equal(here[key], there[key]) for key in here), name
        print(name, "is the same:", len(here), "tensors")
    AutoModelForCausalLM.from_pretrained(folder / "gpt2")
    want, got = json.loads((HERE / "goldens.json").read_text()), goldens(folder)
    assert want == json.loads(json.dumps(got)), "outputs or gradients differ"
    print("outputs, losses, gradients and generated tokens are the same")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        check(Path(sys.argv[2]))
    else:
        write_models()
        (HERE / "goldens.json").write_text(json.dumps(goldens(HERE)))
