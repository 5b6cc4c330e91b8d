"""Train the winner of a search with plain PyTorch, and write it as ONNX again.

    python examples/train_winner.py [FOLDER]

FOLDER is what `aznas export` wrote for a network of the nb201 space. Without it a short search finds one first. The
data are the handwritten digits of scikit-learn (1,797 images of 8x8, resized), of which a quarter is held out for the
test. Two cores need about two minutes. Exits with 1 where the test accuracy is below 95 %.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from aznas_onnx.export import TrainableNetwork, export_winners
from aznas_onnx.runtime import onnxruntime
from aznas_onnx.searching import search

RESOLUTION = 16  # of the short search; a network from elsewhere is trained at its own
EPOCHS = 8
BATCH_SIZE = 64
LEARNING_RATE = 0.05
REQUIRED_ACCURACY = 0.95


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else find_a_winner(Path("build/train_winner"))
    torch.manual_seed(0)
    network = TrainableNetwork(folder / "model.onnx")
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"training {(folder / 'genotype.txt').read_text().strip()} ({parameters:,} parameters)")

    training, testing = digits(resolution(folder / "model.onnx"))
    train(network, *training)
    trained = folder / "trained.onnx"
    onnx.save(network.to_onnx(folder / "model.onnx"), trained)
    accuracy = accuracy_in_onnxruntime(trained, *testing)
    print(f"{trained}: test accuracy {accuracy:.1%} in ONNX Runtime")
    return int(accuracy < REQUIRED_ACCURACY)


def find_a_winner(folder: Path) -> Path:
    print("searching nb201 for a network to train", flush=True)
    study = search(
        "nb201", iterations=24, space_options={"resolution": RESOLUTION, "num_classes": 10}, batch_size=16, seed=0
    )
    (exported,) = export_winners(study, study.best(), folder)
    return exported.folder


def resolution(model: Path) -> int:
    shape = onnx.load(model).graph.input[0].type.tensor_type.shape
    return int(shape.dim[2].dim_value)


def digits(size: int) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return images (samples, 3, size, size) and labels, to train and to test."""
    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32)).unsqueeze(1)
    images = F.interpolate((images - images.mean()) / images.std(), size=(size, size), mode="bilinear")
    labels = torch.from_numpy(data.target)
    chosen, held_out = train_test_split(np.arange(len(labels)), test_size=0.25, random_state=0, stratify=labels.numpy())
    three_channels = images.expand(-1, 3, -1, -1)
    return (three_channels[chosen], labels[chosen]), (three_channels[held_out], labels[held_out])


def train(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    network.train()
    start = time.monotonic()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            if len(batch) < BATCH_SIZE:
                break
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        elapsed_s = time.monotonic() - start
        print(
            f"epoch {epoch + 1:2} of {EPOCHS}: loss {total * BATCH_SIZE / len(images):.3f}, {elapsed_s:.0f} s",
            flush=True,
        )


def accuracy_in_onnxruntime(model: Path, images: torch.Tensor, labels: torch.Tensor) -> float:
    session = onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return float((output.argmax(axis=1) == labels.numpy()).mean())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
