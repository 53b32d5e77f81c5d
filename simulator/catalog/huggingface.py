"""A folder with a Hugging Face ``config.json`` -> `ModelSpec`."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simulator.catalog.model import ModelSpec
from simulator.errors import ServelabError

NOT_MODELLED = ("linear_attention", "mamba", "recurrent")


def read_config(folder: Path) -> ModelSpec:
    """Architecture of the model in ``folder``.

    Raises ServelabError where the file is missing, is not JSON, lacks a key, or has layers that are not modelled.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ServelabError(f"model: folder {str(folder)!r} has no config.json")
    try:
        raw = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ServelabError(f"model: {path} is not JSON: {error}") from None
    return from_config(raw, name=raw.get("_name_or_path") or folder.name, source=str(path))


def from_config(raw: dict[str, Any], name: str, source: str) -> ModelSpec:
    """`ModelSpec` from the keys of a ``config.json``; a multimodal model gives its text part."""
    c: dict[str, Any] = {**raw, **raw.get("text_config", {})}

    def need(*keys: str) -> Any:
        for key in keys:
            if c.get(key) is not None:
                return c[key]
        raise ServelabError(f"model: {source} has no {' or '.join(keys)}")

    kinds = c.get("layer_types") or []
    odd = sorted({k for k in kinds if any(word in k for word in NOT_MODELLED)})
    if odd or c.get("index_topk"):
        what = ", ".join(odd) or "sparse attention (index_topk)"
        raise ServelabError(f"model: {source} has layers that are not modelled: {what}")
    layers, heads = int(need("num_hidden_layers", "n_layer")), int(need("num_attention_heads", "n_head"))
    hidden, model_type = int(need("hidden_size", "n_embd")), str(c.get("model_type", "llama"))
    experts = int(c.get("n_routed_experts") or c.get("num_local_experts") or c.get("num_experts") or 0)
    window = int(c.get("sliding_window") or 0) if c.get("use_sliding_window", True) else 0
    sliding = sum("sliding" in k for k in kinds) if kinds else (layers if window else 0)
    if "llama4" in model_type:
        window, sliding = (
            int(c.get("attention_chunk_size") or 8192),
            sum("chunked" in k for k in kinds) or layers * 3 // 4,
        )
    longest = int(need("max_position_embeddings", "n_positions"))
    if window >= longest:
        window = sliding = 0
    inner = int(need("intermediate_size", "n_inner"))
    fields: dict[str, Any] = {
        "name": name,
        "model_type": model_type,
        "layers": layers,
        "hidden_size": hidden,
        "intermediate_size": int(c.get("intermediate_size_mlp") or inner),
        "attention_heads": heads,
        "kv_heads": int(c.get("num_key_value_heads") or heads),
        "head_dim": int(c.get("head_dim") or hidden // heads),
        "vocab_size": int(need("vocab_size")),
        "max_position_embeddings": longest,
        "tie_word_embeddings": bool(c.get("tie_word_embeddings", False)),
        "attention_bias": bool(c.get("attention_bias", "qwen2" in model_type)),
        "qk_norm": "qwen3" in model_type,
        "sliding_window": window if sliding else 0,
        "sliding_layers": sliding if window else 0,
        "quantization": str((c.get("quantization_config") or {}).get("quant_method", "")),
        "source": source,
    }
    if experts:
        fields |= {
            "experts": experts,
            "experts_per_token": int(need("num_experts_per_tok", "num_experts_per_token", "experts_per_token")),
            "moe_intermediate_size": int(c.get("moe_intermediate_size") or inner),
            "shared_experts": int(c.get("n_shared_experts") or ("llama4" in model_type)),
            "first_dense_layers": int(c.get("first_k_dense_replace") or 0),
            "moe_layer_step": int(
                c.get("interleave_moe_layer_step") or c.get("decoder_sparse_step") or c.get("moe_layer_freq") or 1
            ),
        }
    if c.get("kv_lora_rank"):
        keys = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        fields |= {key: int(need(key)) for key in keys} | {"q_lora_rank": int(c.get("q_lora_rank") or 0)}
        fields["head_dim"] = fields["qk_nope_head_dim"] + fields["qk_rope_head_dim"]
    try:
        return ModelSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "model"
        raise ServelabError(f"model: {source}: {where}: {first['msg']}, got {first['input']!r}") from None
