"""The measured networks that scores are compared with: files, spaces, columns, and what others reach on them.

The files are those of the benchmarks' authors, one CSV each; docs/truth.md says where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["SETS", "Published", "TruthSet"]


@dataclass(frozen=True, slots=True)
class Published:
    """A rank correlation that others report for a label-free score.

    - `symbol`: ``"tau"`` or ``"rho"``.
    """

    value: float
    symbol: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthSet:
    """Measured networks of one space.

    - `name`: Of the set, and of its scores file.
    - `file`: The CSV.
    - `space`, `options`: The space, and its options.
    - `classification`, `dense`: Columns of classification tasks, and of tasks with an output for each position.
    - `lower`: Columns where lower is better.
    - `group`: Column of groups that are compared within.
    - `networks`: How many are scored, at random.
    - `published`: By column: the best that is published for a label-free score.
    """

    name: str
    file: str
    space: str
    classification: tuple[str, ...]
    dense: tuple[str, ...] = ()
    options: Mapping[str, int | str] = field(default_factory=lambda: MappingProxyType({}))
    lower: tuple[str, ...] = ()
    group: str | None = None
    networks: int = 300
    published: Mapping[str, Published] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, those of classification first."""
        return (*self.classification, *self.dense)


_RHO_OF_AZ_NAS = {"class_object": 0.58, "class_scene": 0.79, "jigsaw": 0.41, "autoencoder": 0.31, "normal": 0.60}
_MACRO_RHO_OF_AZ_NAS = {"class_object": 0.90, "class_scene": 0.82, "jigsaw": 0.77, "autoencoder": 0.52, "normal": 0.85}


def _az_nas(values: Mapping[str, float]) -> Mapping[str, Published]:
    return MappingProxyType({column: Published(value, "rho", "AZ-NAS") for column, value in values.items()})


_TRANSNAS = ("class_scene", "class_object", "jigsaw")
_TRANSNAS_DENSE = ("normal", "segmentsemantic", "room_layout", "autoencoder")

SETS = (
    TruthSet(
        name="nb201",
        file="nb201_accuracy_dev.csv",
        space="nb201",
        classification=("cifar10", "cifar100", "imagenet16_120"),
        networks=1000,
        published=MappingProxyType(
            {
                "cifar10": Published(0.776, "tau", "Synflow + AZ-NAS"),
                "cifar100": Published(0.758, "tau", "Synflow + AZ-NAS"),
                "imagenet16_120": Published(0.747, "tau", "Synflow + AZ-NAS"),
            }
        ),
    ),
    TruthSet(
        name="nats-sss",
        file="nats_sss_cifar10_32768.csv",
        space="nats-sss",
        classification=("acc",),
        networks=400,
        published=MappingProxyType({"acc": Published(0.74, "tau", "NEAR")}),
    ),
    TruthSet(
        name="nb101",
        file="nasbench101_500.csv",
        space="nb101",
        classification=("val_accuracy",),
        networks=315,
        published=MappingProxyType({"val_accuracy": Published(0.56, "tau", "InTrain")}),
    ),
    TruthSet(
        name="transnas-micro",
        file="transnas101_micro.csv",
        space="transnas-micro",
        published=_az_nas(_RHO_OF_AZ_NAS),
        classification=_TRANSNAS,
        dense=_TRANSNAS_DENSE,
    ),
    TruthSet(
        name="transnas-macro",
        file="transnas101_macro.csv",
        space="transnas-macro",
        published=_az_nas(_MACRO_RHO_OF_AZ_NAS),
        classification=_TRANSNAS,
        dense=_TRANSNAS_DENSE,
    ),
    TruthSet(
        name="darts-swap",
        file="darts_swap_cifar10_1000.csv",
        space="darts",
        classification=("val_acc",),
        networks=300,
        published=MappingProxyType({"val_acc": Published(0.93, "rho", "SWAP")}),
    ),
    TruthSet(
        name="nb301",
        file="nasbench301_surrogate_500.csv",
        space="darts",
        classification=("val_accuracy",),
        networks=314,
        published=MappingProxyType({"val_accuracy": Published(0.70, "rho", "AZ-NAS")}),
    ),
    TruthSet(
        name="nb-macro",
        file="nasbench_macro_cifar10.csv",
        space="nb-macro",
        classification=("mean_acc",),
    ),
    TruthSet(
        name="mnasnet",
        file="accel_nasbench_mnasnet_imagenet.csv",
        space="mnasnet",
        classification=("val_top1",),
    ),
    TruthSet(
        name="vit",
        file="autoformer_vitbench_200.csv",
        space="vit",
        classification=("c100_kd", "flowers_kd", "chaoyang_kd", "imagenet_supernet", "c100_base", "flowers_base"),
        group="set",
        networks=124,
    ),
    TruthSet(
        name="pit",
        file="pit_vitbench_100.csv",
        space="pit",
        classification=("c100_base_acc", "c100_kd_acc", "flower_base_acc", "flower_kd_acc", "chaoyang_base_acc"),
        networks=53,
    ),
    TruthSet(
        name="bert",
        file="flexibert_glue.csv",
        space="bert",
        options=MappingProxyType({"networks": "trained"}),
        classification=("glue",),
        published=MappingProxyType({"glue": Published(0.695, "tau", "NSC")}),
    ),
    TruthSet(
        name="gpt",
        file="lts_random_GPT2_wt103.csv",
        space="gpt",
        classification=("valid_ppl",),
        lower=("valid_ppl",),
        networks=135,
        published=MappingProxyType({"valid_ppl": Published(0.849, "tau", "NSC")}),
    ),
)
