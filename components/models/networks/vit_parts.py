"""The vision transformers of several libraries, written out in one form."""

from functools import partial
from typing import Any

import torch
from timm.layers import LayerScale, Mlp
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from components.models.networks.explicit_vit import (
    ExplicitVit,
    VitBlock,
    Weights,
    class_token,
    class_token_and_mean,
    mean_of_patches,
)
from components.models.networks.network import Network, mean_pool
from components.models.networks.transformers_trunk import ClassTokenAndMean, TransformersTrunk
from components.models.networks.trunks import TimmTrunk, TorchvisionVitTrunk, VitTrunk


def parts_of(network: Network) -> ExplicitVit:
    """The network written out: the same logits, by its own parameters.

    For the pre-norm transformers of timm, torchvision and transformers and the small one, with layer scale or
    registers or without, whose head is linear and reads the class token, the mean of the patches, or both.
    Raises ValueError for others, in one line that says what is unknown.
    """
    trunk = network.trunk
    try:
        if isinstance(trunk, VitTrunk):
            _require(network.pool is mean_pool, "a pooling other than the mean")
            return _timm(network, trunk.vit)
        if isinstance(trunk, TimmTrunk) and isinstance(trunk.model, VisionTransformer):
            return _timm(network, trunk.model)
        if isinstance(trunk, TorchvisionVitTrunk):
            return _torchvision(network, trunk)
        if isinstance(trunk, TransformersTrunk):
            return _transformers(network, trunk.model)
    except ValueError as error:
        raise ValueError(f"no relevance through {error}") from None
    model = trunk.model if isinstance(trunk, TimmTrunk) else trunk
    raise ValueError(f"no relevance through {_name(model)}: it is no known vision transformer")


def _timm(network: Network, model: VisionTransformer) -> ExplicitVit:
    """`forward_features` and `forward_head`."""
    _require(model.attn_pool is None and model.global_pool in ("token", "avg"), "this pooling of tokens")
    prefix = 0 if model.pool_include_prefix else model.num_prefix_tokens
    mean = partial(mean_of_patches, prefix_tokens=prefix)

    def embed(pixels: Tensor) -> Tensor:
        return model.norm_pre(model._pos_embed(model.patch_embed(network.normalised(pixels))))

    return ExplicitVit(
        embed=embed,
        blocks=[_timm_block(block) for block in model.blocks],
        norm=_norm(model.norm),
        pooling=class_token if model.global_pool == "token" else mean,
        pooled_norm=_norm(model.fc_norm),
        head=_linear(network.head),
        prefix_tokens=model.num_prefix_tokens,
    )


def _timm_block(block: Any) -> VitBlock:
    attention, mlp = block.attn, block.mlp
    for part, kind in ((block, Block), (attention, Attention), (mlp, Mlp)):
        _require(type(part) is kind, _name(part))
    for extra in (attention.q_norm, attention.k_norm, attention.norm, mlp.norm):
        _require(isinstance(extra, nn.Identity), "norms within attention or MLP")
    _require(attention.gate is None, "gated attention")
    query, key_value = _query_and_key_value(attention.qkv.weight, attention.qkv.bias)
    return VitBlock(
        norm1=_norm(block.norm1),
        query=query,
        key_value=key_value,
        heads=attention.num_heads,
        projection=attention.proj,
        scale1=_scale(block.ls1),
        norm2=_norm(block.norm2),
        fc1=mlp.fc1,
        activation=mlp.act,
        fc2=mlp.fc2,
        scale2=_scale(block.ls2),
    )


def _torchvision(network: Network, trunk: TorchvisionVitTrunk) -> ExplicitVit:
    encoder: Any = trunk.encoder
    _require(isinstance(network.pool, nn.Sequential) and len(network.pool) == 1, "layers before the head")

    return ExplicitVit(
        embed=lambda pixels: trunk.embed(network.normalised(pixels)) + encoder.pos_embedding,
        blocks=[_torchvision_block(block) for block in encoder.layers],
        norm=_norm(encoder.ln),
        pooling=class_token,
        pooled_norm=nn.Identity(),
        head=_linear(network.head),
        prefix_tokens=1,
    )


def _torchvision_block(block: Any) -> VitBlock:
    _require(type(block) is EncoderBlock, _name(block))
    attention = block.self_attention
    fc1, activation, _, fc2, _ = block.mlp
    query, key_value = _query_and_key_value(attention.in_proj_weight, attention.in_proj_bias)
    return VitBlock(
        norm1=_norm(block.ln_1),
        query=query,
        key_value=key_value,
        heads=attention.num_heads,
        projection=attention.out_proj,
        scale1=None,
        norm2=_norm(block.ln_2),
        fc1=fc1,
        activation=activation,
        fc2=fc2,
        scale2=None,
    )


def _transformers(network: Network, model: Any) -> ExplicitVit:
    prefix = network.prefix_tokens
    assert prefix is not None
    both = partial(class_token_and_mean, prefix_tokens=prefix)
    layers = model.layers if hasattr(model, "layers") else model.encoder.layer
    return ExplicitVit(
        embed=lambda pixels: model.embeddings(network.normalised(pixels)),
        blocks=[_transformers_block(layer) for layer in layers],
        norm=_norm(model.layernorm),
        pooling=both if isinstance(network.pool, ClassTokenAndMean) else class_token,
        pooled_norm=nn.Identity(),
        head=_linear(network.head),
        prefix_tokens=prefix,
    )


def _transformers_block(layer: Any) -> VitBlock:
    attention, mlp = layer.attention, layer.mlp
    _require(type(mlp).__name__ in ("ViTMLP", "Dinov2MLP", "Dinov2WithRegistersMLP"), _name(mlp))
    is_vit = type(layer).__name__ == "ViTLayer"
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    bias = None if q.bias is None else torch.cat([k.bias, v.bias])
    return VitBlock(
        norm1=_norm(layer.layernorm_before if is_vit else layer.norm1),
        query=(q.weight, q.bias),
        key_value=(torch.cat([k.weight, v.weight]), bias),
        heads=attention.num_attention_heads,
        projection=attention.o_proj,
        scale1=None if is_vit else layer.layer_scale1.lambda1,
        norm2=_norm(layer.layernorm_after if is_vit else layer.norm2),
        fc1=mlp.fc1,
        activation=mlp.activation_fn,
        fc2=mlp.fc2,
        scale2=None if is_vit else layer.layer_scale2.lambda1,
    )


def _query_and_key_value(weight: Tensor, bias: Tensor | None) -> tuple[Weights, Weights]:
    """Of those of queries, keys and values, the one under the other."""
    sizes = [len(weight) // 3, 2 * len(weight) // 3]
    biases = (None, None) if bias is None else bias.split(sizes)
    query, key_value = zip(weight.split(sizes), biases, strict=True)
    return query, key_value


def _scale(module: nn.Module) -> Tensor | None:
    _require(isinstance(module, LayerScale | nn.Identity), _name(module))
    return module.gamma if isinstance(module, LayerScale) else None


def _linear(module: nn.Module) -> nn.Linear:
    if not isinstance(module, nn.Linear):
        raise ValueError("a head that is not linear")
    return module


def _norm(module: nn.Module) -> nn.Module:
    known = isinstance(module, nn.LayerNorm) and module.weight is not None
    _require(known or isinstance(module, nn.Identity), _name(module))
    return module


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _require(known: bool, what: str) -> None:
    if not known:
        raise ValueError(what)
