"""Named networks: a paper, or a size that has proven itself, as a value. Does not import torch.

Every preset can be taken in 1-D, 2-D or 3-D; its parameter count is that of its own dimension, channels and classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from unetkit.core.errors import SpecError, nearest
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec


@dataclass(frozen=True)
class Preset:
    """A named spec, where it comes from, and what is unusual about it.

    `volumes`: the form that it has in 3-D, where it is not simply the same with another number of axes.
    """

    name: str
    spec: NetSpec
    paper: str
    year: int
    note: str
    volumes: NetSpec | None = None

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        return geometry(self.spec).parameters

    def form(self, ndim: int | None = None) -> NetSpec:
        """The spec in another number of dimensions (None: its own)."""
        if ndim is None or ndim == self.spec.ndim:
            return self.spec
        return self.volumes if ndim == 3 and self.volumes is not None else self.spec.replace({"ndim": ndim})

    def __str__(self) -> str:
        return f"{self.name}: {self.paper} ({self.year}); {self.parameters / 1e6:.2f} million parameters; {self.note}"


_WIDE = (64, 128, 256, 512, 1024)
_TEXTBOOK = (32, 64, 128, 256, 512)
_NNUNET = {"down": "block", "norm": "instance", "activation": "leaky_relu", "bias": True, "deep_supervision": True}

_TABLE = (
    Preset(
        "unet2015",
        NetSpec(channels=_WIDE, norm="none", padding="valid", dropout=0.5),
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, figure 1",
        2015,
        "unpadded convolutions, so the output is smaller than the input: 572 × 572 gives 388 × 388; no norm; 23 "
        "convolutional layers; dropout at the end of the contracting path",
    ),
    Preset(
        "unet",
        NetSpec(channels=_TEXTBOOK),
        "Ronneberger et al. 2015, in the form of today's textbooks",
        2015,
        "padded convolutions, so the output is as large as the input; batch norm; half the widths of the paper",
    ),
    Preset(
        "unet-bilinear",
        NetSpec(channels=(64, 128, 256, 512, 512), decoder_channels=(64, 64, 128, 256), block="tapered", up="corners"),
        "Ronneberger et al. 2015, as common tutorials write it with bilinear upsampling",
        2015,
        "interpolation with aligned corners in place of transposed convolutions: it depends on the size of the map, so "
        "tiles are blended, not exact; the bottom has 512 channels, since interpolation cannot narrow",
    ),
    Preset(
        "unet3d",
        NetSpec(
            ndim=3,
            in_channels=3,
            classes=3,
            channels=(64, 128, 256, 512),
            block="doubling",
            decoder_block="plain",
            up_width="same",
            up_bias=False,
            norm_scale=False,
            padding="valid",
        ),
        "Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net, figure 2",
        2016,
        "unpadded: 132 × 132 × 116 voxels of three channels give 44 × 44 × 28; widths are doubled before pooling; "
        "going up keeps the width; batch norm that learns a shift (a scale would be one with the next convolution's)",
    ),
    Preset(
        "vnet",
        NetSpec(
            ndim=3,
            channels=(16, 32, 64, 128, 256),
            decoder_channels=(32, 64, 128, 256),
            kernels=5,
            blocks=(1, 2, 3, 3, 3),
            decoder_blocks=(1, 2, 3, 3),
            block="vnet",
            down="strided",
            up="transposed-unit",
            activation="prelu",
        ),
        "Milletari, Navab, Ahmadi: V-Net, figure 2",
        2016,
        "residual stages of 1, 2, 3, 3 and 3 convolutions of 5³; strided convolutions in place of pooling; PReLU; the "
        "decoder is as wide as what its skips join; batch norm, which the paper did not have",
    ),
    Preset(
        "resunet",
        NetSpec(
            in_channels=3,
            classes=1,
            channels=(64, 128, 256, 512),
            block="preactivation",
            blocks=1,
            down="block",
            up="interpolate",
        ),
        "Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net, table 1",
        2018,
        "pre-activation residual units whose first convolution has the stride; shortcuts without weights; "
        "interpolation that keeps the width",
    ),
    Preset(
        "unetpp",
        NetSpec(in_channels=3, classes=1, channels=_TEXTBOOK, topology="nested", deep_supervision=True),
        "Zhou, Siddiquee, Tajbakhsh, Liang: UNet++, figure 1",
        2018,
        "a triangle of decoder nodes; deep supervision of full-size logits of every column, so that columns can be "
        "pruned after training (unetkit.nets.prune)",
    ),
    Preset(
        "unet3plus",
        NetSpec(
            in_channels=3,
            classes=1,
            channels=_WIDE,
            topology="full-scale",
            head="conv",
            bias=True,
            deep_supervision=True,
        ),
        "Huang et al.: UNet 3+, figure 1",
        2020,
        "every decoder level reads all encoder levels that are as fine or finer and all coarser decoder levels, 64 "
        "channels from each",
    ),
    Preset(
        "attention",
        NetSpec(channels=_TEXTBOOK, skip="attention"),
        "Oktay et al.: Attention U-Net, figures 1 and 2",
        2018,
        "additive gates on the skips, driven by the coarser level and interpolated from there; skip 'attention-up' is "
        "the common form whose gating signal is upsampled first",
    ),
    Preset(
        "r2unet",
        NetSpec(in_channels=3, classes=1, channels=_WIDE, block="recurrent-residual"),
        "Alom, Hasan, Yakopcic, Taha, Asari: Recurrent Residual CNN based on U-Net, figures 3 and 4d",
        2018,
        "every convolution is applied again to its own result, t = 2 times, with weights for what comes in and weights "
        "for what comes back; two of them around an identity",
    ),
    Preset(
        "recurrent",
        NetSpec(in_channels=3, classes=1, channels=_WIDE, block="recurrent"),
        "Alom et al. 2018, the recurrent form without identities (RU-Net, figure 4b)",
        2018,
        "as r2unet, without the residual connections",
    ),
    Preset(
        "dense",
        NetSpec(
            in_channels=3,
            classes=12,
            stem=48,
            channels=(112, 192, 304, 464, 656, 240),
            decoder_channels=(256, 80, 112, 160, 192),
            blocks=(4, 5, 7, 10, 12, 15),
            decoder_blocks=(4, 5, 7, 10, 12),
            block="dense",
            down="transition",
            up="overlapping",
            up_width="same",
            bias=True,
            dropout=0.2,
            dropout_at="convolutions",
        ),
        "Jégou, Drozdzal, Vazquez, Romero, Bengio: The One Hundred Layers Tiramisu, table 2 (FC-DenseNet103)",
        2017,
        "dense blocks that grow by 16 maps a layer; on the way up only what is new goes on",
    ),
    Preset(
        "fusion",
        NetSpec(channels=_TEXTBOOK, skip="fusion"),
        "U-Net whose skips are weighted sums, the weights learned as in Tan, Pang, Le: EfficientDet, section 3.2",
        2020,
        "a softmax of two learned numbers a level says how much of the encoder goes on",
    ),
    Preset(
        "add",
        NetSpec(channels=_TEXTBOOK, skip="add"),
        "U-Net with identity skips, as in Chaurasia, Culurciello: LinkNet",
        2017,
        "skips are sums: decoder blocks read half as many channels",
    ),
    Preset(
        "transunet",
        NetSpec(
            channels=(64, 128, 256, 512),
            block="residual",
            bottleneck="transformer",
            bottleneck_layers=6,
            up="interpolate",
        ),
        "Chen et al.: TransUNet, figure 1, in a smaller size",
        2021,
        "a convolutional encoder, then transformer layers over its coarsest map, then a convolutional decoder; learned "
        "positions are interpolated, so any size will do; tiles are blended",
    ),
    Preset(
        "nnunet",
        NetSpec(channels=(32, 64, 128, 256, 512, 512, 512), **_NNUNET),
        "Isensee et al.: nnU-Net, the plain network as it is planned for patches of 512 × 512",
        2021,
        "strided convolutions in place of pooling, instance norm, leaky ReLU, deep supervision; in 3-D at most 320 "
        "channels; kernels and strides per axis where voxels are anisotropic",
        NetSpec(ndim=3, channels=(32, 64, 128, 256, 320, 320), **_NNUNET),
    ),
    Preset(
        "nnunet-resenc",
        NetSpec(
            channels=(32, 64, 128, 256, 512, 512, 512),
            stem=32,
            blocks=(1, 3, 4, 6, 6, 6, 6),
            decoder_blocks=1,
            block="basic",
            decoder_block="plain",
            **_NNUNET,
        ),
        "Isensee et al.: nnU-Net Revisited, the residual-encoder network (ResEnc)",
        2024,
        "residual units (ResNet-D) in the encoder, one convolution a level in the decoder",
        NetSpec(
            ndim=3,
            channels=(32, 64, 128, 256, 320, 320),
            stem=32,
            blocks=(1, 3, 4, 6, 6, 6),
            decoder_blocks=1,
            block="basic",
            decoder_block="plain",
            **_NNUNET,
        ),
    ),
    Preset(
        "fcn8s",
        NetSpec(
            in_channels=3,
            classes=21,
            channels=(64, 128, 256, 512, 512, 512),
            blocks=(2, 2, 3, 3, 3, 2),
            topology="scores",
        ),
        "Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, figure 3",
        2015,
        "no decoder: class scores of three levels are upsampled and added; the convolutions that stand for the fully "
        "connected layers have 512 channels, not 4096",
    ),
    Preset(
        "segnet",
        NetSpec(
            in_channels=3,
            classes=11,
            channels=(64, 128, 256, 512, 512),
            blocks=(2, 2, 3, 3, 3),
            skip="none",
            up="unpool",
        ),
        "Badrinarayanan, Kendall, Cipolla: SegNet, figure 2",
        2017,
        "no skips but the places of the maxima, to which values are put back on the way up",
    ),
    Preset(
        "noskip",
        NetSpec(channels=_TEXTBOOK, skip="none"),
        "the textbook U-Net without its skips: an encoder-decoder",
        2015,
        "to see what the skips are worth",
    ),
    Preset(
        "unet1d",
        NetSpec(ndim=1, channels=(16, 32, 64, 128, 256), kernels=9),
        "Moskalenko, Zolotykh, Osipov: Deep Learning for ECG Segmentation, figure 2, four times as wide",
        2019,
        "for signals: kernels of 9 samples; for sequences of integers set net.vocabulary",
    ),
    Preset(
        "resunet-small",
        NetSpec(channels=(16, 32, 64, 128, 256), block="residual"),
        "plain U-Net with the basic residual blocks of He et al. 2016",
        2016,
        "small: trains in minutes on a laptop",
    ),
)

PRESETS: dict[str, Preset] = {entry.name: entry for entry in _TABLE}


def preset(name: str) -> Preset:
    """The preset of that name. Raises SpecError naming the nearest."""
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise SpecError(f"there is no network called '{name}'{hint}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
