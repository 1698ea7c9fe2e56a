"""The challenge's twelve problems: sizes, constants, official counts, file names, addresses.

Source of every number: the Sparse DNN Graph Challenge (https://graphchallenge.mit.edu/challenges)
and its data at `OFFICIAL_ADDRESS`; the archives' checksums are those published by the authors of
the HPEC 2020 champion in https://github.com/merthidayetoglu/SpDNN_Challenge2020.
"""

from __future__ import annotations

from dataclasses import dataclass

OFFICIAL_ADDRESS = "https://graphchallenge.s3.amazonaws.com/synthetic/sparsechallenge_2019/"

IMAGES = 60_000
NEURONS = (1024, 4096, 16384, 65536)
LAYERS = (120, 480, 1920)
EDGES_PER_NEURON = 32
WEIGHT = 1 / 16
YMAX = 32.0
"""Neurons saturate here: every value is clipped to [0, YMAX]."""

BIAS = {1024: -0.3, 4096: -0.35, 16384: -0.4, 65536: -0.45}
SURVIVORS = {1024: 1812, 4096: 1801, 16384: 1918, 65536: 1994}
"""Images with a non-zero entry after the last layer: the same number at every official L."""

CATEGORIES_SHA256 = {
    1024: "a006e26755ca317ecf629035972137457705f20e3139b7796a2f9e9d58c8f4e1",
    4096: None,
    16384: None,
    65536: None,
}
"""SHA-256 of the official categories file, the same at every official L, where it was compared."""

INPUT_NONZEROS = {1024: 6_374_505, 4096: 25_019_051, 16384: 98_858_913, 65536: 392_191_985}
ARCHIVE_MD5 = {
    1024: "8ccdd73e06ff905f7c72410e9a5cc4be",
    4096: "ebf3785df180ae921db7c805e5c9adfb",
    16384: "92a48c20050e3d8fcf511b810eb56faf",
}
"""md5 of `dnn/neuron{N}.tar.gz`; none was published for 65536."""

MNIST_FILE = "train-images-idx3-ubyte.gz"
MNIST_MD5 = "6bbc9ace898e44ae57da46a324031adb"
"""md5 of the unpacked MNIST training images."""


FEATURES_SHA256 = {
    1024: "69f31eec86f4a859def2738f8e71cca3898e7d109da52b1cf281a2ec8fab6211",
    4096: "c35bad878e9dce8ab585a353e16bbd216198ba7e1042e081e5142c286cd6cc89",
    16384: "b0297358c05429fdbcf6cfb88ccee1ae2f89b265adad75c9b2efeb73cc522d6c",
    65536: "ce294ba289b5a7d08f66485f8fdc73a9bb561affec604027f07fd4cd1a772057",
}
"""SHA-256 of the official inputs, 60,000 packed rows (`network.Features`): regenerated from MNIST,
with the official number of non-zeros for every N."""

NETWORK_SHA256 = {
    1024: {
        120: "caf08aa6e87bba7da8c0ca9d3ad509373da69c239b65e17b3eaa39389f252415",
        480: "c25e197dfad3e18bf5a152fb38bd7d254dc57a56e4570ee53eca959cbf28801c",
        1920: "3e23482432556467cb47d16ab80e46ac896011312ffd9eac43ad07e53590c7d1",
    },
    4096: {
        120: "67e0493e9c1806bfeac4a4555851291ed623e9e19dad6f7cab13950ebc57f353",
        480: "85e99ae57fc0c05095a23ce1d4b3a7e405aea136f8fa8cd58be2332c4a1fafd2",
        1920: "83e2b7c50f8f60693dd33de43b2b66b9f6a92cf041bc9bc21b2a50959f8c1f35",
    },
    16384: {
        120: "9108427ccb61eb7db334e6b99777d4677cdc2bd9ae04c34063669aaaf509ef0a",
        480: "4ba3396d13ab20a10e23d264094b003d74d9a5f34dfdc622db075c2c37ca3b5b",
        1920: "c4e9fcdd2601233b26878e7d65259c9d4246741164462252147e2f0d9e500f41",
    },
    65536: {
        120: "246a8b76a64e227e5f6e1084d49c8c7ff3860ccdd7687defc117d9927f468a68",
        480: "e5e95b5cb36fd2a38ff3e619137c873c807ddc37bbdfa8bbf809a63e3991f5a9",
        1920: "69a0c4442662ee3dcc1888025e31c30f09f498a161b81bbc1598bccf3a830c15",
    },
}
"""SHA-256 of the official network's first layers (`Dataset.network_sha256`), by N and L, computed
from its regenerated layers."""

_DIGITS_1024 = "078501b054d4f16b9cb1c1012dc827e3881bcac0d286eab14e2a47b22a9c695e"
_ANSWER_1024 = (1779, "091bdd7244e7749f3315f25b624eb445b116b0c4cf699f454b7e2f98c60a3279")
SYNTHETIC_ANSWERS: dict[tuple[str, int], tuple[int, str]] = {
    (_DIGITS_1024, layers): _ANSWER_1024 for layers in LAYERS
}
"""(SHA-256 of synthetic inputs, layers): the number of categories and the SHA-256 of their list, as
the reference engine found them."""


@dataclass(frozen=True)
class OfficialProblem:
    """One problem of the challenge: `neurons` in a layer, `layers` layers, 60,000 images.

    Any positive `layers` up to 1920 is allowed: the L-layer problem is the first L layers of the
    1920-layer network.
    """

    neurons: int
    layers: int

    def __post_init__(self) -> None:
        if self.neurons not in NEURONS:
            raise ValueError(f"neurons must be one of {NEURONS}, not {self.neurons}")
        if not 1 <= self.layers <= LAYERS[-1]:
            raise ValueError(f"layers must be from 1 to {LAYERS[-1]}, not {self.layers}")

    @property
    def bias(self) -> float:
        """The bias of every neuron."""
        return BIAS[self.neurons]

    @property
    def edges_per_layer(self) -> int:
        """Edges of one layer."""
        return self.neurons * EDGES_PER_NEURON

    @property
    def edges(self) -> int:
        """Edges that the challenge counts: every edge of every layer, for every image."""
        return IMAGES * self.edges_per_layer * self.layers

    @property
    def survivors(self) -> int | None:
        """The official number of categories, known for the official depths."""
        return SURVIVORS[self.neurons] if self.layers in LAYERS else None


def images_file(neurons: int) -> str:
    """Path of the input images below `OFFICIAL_ADDRESS`."""
    return f"mnist/sparse-images-{neurons}.tsv.gz"


def archive_file(neurons: int) -> str:
    """Path of the network's archive below `OFFICIAL_ADDRESS`."""
    return f"dnn/neuron{neurons}.tar.gz"


def layer_member(neurons: int, layer: int) -> str:
    """Path of one layer (counted from 1) in the network's archive."""
    return f"neuron{neurons}/n{neurons}-l{layer}.tsv"


def categories_file(neurons: int, layers: int) -> str:
    """Path of the official categories below `OFFICIAL_ADDRESS`."""
    return f"dnn/neuron{neurons}-l{layers}-categories.tsv"
