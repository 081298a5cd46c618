"""Pretrained feature networks, built from state dicts: VGG-19 for training, all others for scores.

All take images (B, 1 or 3, H, W) in [-1, 1], I3D clips (B, 1 or 3, T, H, W), treat grey ones as three equal channels,
and are frozen: gradients reach the images only. The package contains no weights.
"""

from cytoforge.networks.features.i3d import CLIP_FRAMES, I3DFeatures
from cytoforge.networks.features.inception import InceptionFeatures
from cytoforge.networks.features.perceptual import LPIPS, SQUEEZENET_SMALLEST, SqueezeNetFeatures, VGG16Features, lpips
from cytoforge.networks.features.vgg19 import VGG_CONVS, VGG19Features

__all__ = [
    "CLIP_FRAMES",
    "LPIPS",
    "SQUEEZENET_SMALLEST",
    "VGG_CONVS",
    "I3DFeatures",
    "InceptionFeatures",
    "SqueezeNetFeatures",
    "VGG16Features",
    "VGG19Features",
    "lpips",
]
