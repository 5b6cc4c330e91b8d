"""Networks that read token ids, exported by both exporters of PyTorch, verified against ONNX Runtime and scored.

    pip install transformers
    python benchmarks/text_networks.py FOLDER    writes the files to FOLDER and prints the table

Nine architectures of Hugging Face's transformers, small and with random weights: nothing is downloaded. Each is
exported twice; the two files should have the same blocks and scores, as far as the exporters keep shared weights
shared.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from aznas_onnx.errors import AznasError
from aznas_onnx.scoring import score
from aznas_onnx.verify import verify

TOKENS, VOCABULARY = 64, 2000
SIZE = {"vocab_size": VOCABULARY, "max_position_embeddings": 128, "hidden_size": 128, "num_attention_heads": 4}
ENCODER = {**SIZE, "num_hidden_layers": 3, "intermediate_size": 256}
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", ENCODER),
    "bert_mlm": ("BertForMaskedLM", "BertConfig", ENCODER),
    "bert_classifier": ("BertForSequenceClassification", "BertConfig", ENCODER),
    "roberta": ("RobertaModel", "RobertaConfig", {**ENCODER, "type_vocab_size": 1}),
    "albert": ("AlbertModel", "AlbertConfig", {**ENCODER, "embedding_size": 64}),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 128, "n_layers": 3, "n_heads": 4, "hidden_dim": 256, "vocab_size": VOCABULARY},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 128, "n_layer": 3, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 128, "use_cache": False},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**ENCODER, "num_key_value_heads": 2, "use_cache": False}),
    "t5_encoder": (
        "T5EncoderModel",
        "T5Config",
        {"d_model": 128, "num_layers": 3, "num_heads": 4, "d_ff": 256, "d_kv": 32, "vocab_size": VOCABULARY},
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("| network | exporter | difference | blocks | params | expressivity | trainability |")
    print("|---|---|---|---|---|---|---|")
    failed = 0
    for name in NETWORKS:
        for exporter in ("TorchScript", "dynamo"):
            try:
                print(f"| {name} | {exporter} | {row(export(name, exporter, arguments.folder))} |", flush=True)
            except AznasError as error:
                failed += 1
                print(f"| {name} | {exporter} | {error} |", flush=True)
    return 1 if failed else 0


class Reader(torch.nn.Module):
    """A network of two inputs and one output."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return self.network(input_ids=input_ids, attention_mask=attention_mask)[0]


def export(name: str, exporter: str, folder: Path) -> Path:
    path = folder / f"{name}__{exporter.lower()}.onnx"
    network, config, options = NETWORKS[name]
    torch.manual_seed(0)
    settings = getattr(transformers, config)(**options, attn_implementation="eager")
    module = Reader(getattr(transformers, network)(settings)).eval()
    ids = torch.randint(5, VOCABULARY, (2, TOKENS))
    inputs, names = (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"]
    if exporter == "dynamo":
        batch = torch.export.Dim("batch")
        shapes = {name: {0: batch} for name in names}
        torch.onnx.export(
            module,
            inputs,
            path,
            input_names=names,
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    else:
        axes = {name: {0: "batch", 1: "tokens"} for name in names}
        torch.onnx.export(module, inputs, path, input_names=names, dynamo=False, dynamic_axes=axes)
    return path


def row(path: Path) -> str:
    shapes = {"input_ids": (1, TOKENS)}
    verified = verify(str(path), batch_size=2, input_shapes=shapes)
    scores = score(str(path), batch_size=8, input_shapes=shapes)
    difference = f"{verified.relative_difference:.1e}" + ("" if verified.agrees else f" ({verified.verdict.value})")
    values = " | ".join(f"{scores.proxies[name].mean:.4f}" for name in ("expressivity", "trainability"))
    return f"{difference} | {scores.blocks} | {scores.params:,} | {values}"


if __name__ == "__main__":
    sys.exit(main())
