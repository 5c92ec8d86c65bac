"""Vision transformers of 16 patches with random weights: no norm or bias is the identity."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import Network
from components.models.networks.statistics import CENTRED
from components.models.networks.trunks import TimmTrunk

SIDE, CLASSES = 16, 5
FORMS = {  # of timm's transformer
    "class_token": {},
    "registers": {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.5, "qkv_bias": False},
    "mean_then_norm": {"global_pool": "avg"},
    "mean_of_all": {"global_pool": "avg", "fc_norm": False, "pool_include_prefix": True, "pre_norm": True},
}


def random_vit(form="class_token", depth=3, seed=0, dtype=torch.float64, **options):
    """A network of one of the FORMS or `small_vit`, in evaluation mode; D = 48, 4 heads."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if form == "small_vit":
            network = SmallVit(width=48, depth=depth, patch_size=4).build(CLASSES, SIDE, seed)
        else:
            model = VisionTransformer(
                img_size=SIDE, patch_size=4, embed_dim=48, depth=depth, num_heads=4, mlp_ratio=2,
                num_classes=0, **{**FORMS[form], **options},
            )  # fmt: skip
            trunk, prefix = TimmTrunk(model), model.num_prefix_tokens
            network = Network(trunk, nn.Linear(48, CLASSES), 48, CENTRED, trunk.pool, prefix, True)
        for parameter in network.parameters():
            scale = 0.5 if parameter.ndim == 1 else 1.5 * parameter[0].numel() ** -0.5
            nn.init.normal_(parameter, std=scale)
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return in_precision(network, dtype)


def in_precision(network, dtype):
    network.dtype = dtype
    return network.to(dtype).eval()


def random_pixels(n=3, side=SIDE, seed=0):
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def timm_of(network):
    """The transformer of timm in it."""
    return network.trunk.model if isinstance(network.trunk, TimmTrunk) else network.trunk.vit


def logits_of(network, pixels):
    """By the network's own modules, in its precision."""
    x = (pixels.float() / 255 - network.mean) / network.std
    return network.head(network.pool(network.trunk(x)))
