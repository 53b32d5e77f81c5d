"""GPUs, models and prices: names, aliases, errors, and parameter counts against published sizes."""

import json

import pytest
from pydantic import ValidationError

from simulator.catalog import GpuSpec, ModelSpec, constants, find_gpu, find_model, load_gpus, load_models, load_prices
from simulator.catalog.huggingface import from_config
from simulator.errors import ServelabError

LLAMA = "meta-llama/Meta-Llama-3.1-8B"


@pytest.mark.parametrize("name", sorted(load_models()))
def test_parameters_match_the_published_size(name):
    """Within 1.2 %: published sizes are rounded, and Scout's 109e9 counts its vision part."""
    model = load_models()[name]
    assert model.parameters == pytest.approx(model.published_parameters, rel=0.012)


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        ("llama-3.1-8b", 8.03e9, 0.001),
        ("llama-3.1-70b", 70.6e9, 0.001),
        ("qwen3-32b", 32.8e9, 0.002),
        ("qwen3-30b-a3b", 30.5e9, 0.002),
        ("mixtral-8x7b-v0.1", 46.7e9, 0.001),
        ("deepseek-v3", 671e9, 0.001),
        ("gpt-oss-120b", 116.8e9, 0.001),
    ],
)
def test_parameters_of_the_best_known_models(name, published, tolerance):
    assert find_model(name).parameters == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "active"),
    [("qwen3-30b-a3b", 3.3e9), ("deepseek-v3", 37e9), ("mixtral-8x7b-v0.1", 12.9e9), ("qwen3-8b", 8.19e9)],
)
def test_active_parameters(name, active):
    """Within 2 %: makers round them, and differ in whether embeddings count."""
    assert find_model(name).active_parameters == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "Meta-Llama-3.1-8B",
        "llama-3.1-8b",
        " LLAMA-3.1-8B-instruct ",
        LLAMA,
    ],
)
def test_model_aliases(name):
    assert find_model(name).name == LLAMA


def test_an_fp8_alias_carries_its_quantization():
    assert find_model("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8").quantization == "fp8"
    assert find_model("Qwen/Qwen3-235B-A22B-Instruct-2507").quantization == ""


@pytest.mark.parametrize("name", ["h100", "H100", "h100_sxm", "NVIDIA H100 80GB HBM3"])
def test_gpu_aliases(name):
    assert find_gpu(name).name == "h100_sxm"


@pytest.mark.parametrize(
    ("find", "wrong", "right"),
    [
        (find_gpu, "h100_sxn", "h100_sxm"),
        (find_gpu, "rtx_4909", "rtx_4090"),
        (find_model, "lama-3.1-8b", LLAMA),
        (find_model, "Qwen/Qwen3-33B", "Qwen/Qwen3-32B"),
    ],
)
def test_a_misspelt_name_gets_a_hint(find, wrong, right):
    with pytest.raises(ServelabError, match="did you mean") as error:
        find(wrong)
    assert repr(wrong) in str(error.value) and repr(right) in str(error.value)


def test_a_name_like_no_other_gets_no_hint():
    with pytest.raises(ServelabError) as error:
        find_gpu("zzzzzz")
    assert "did you mean" not in str(error.value)


CONFIGS = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 48,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "decoder_sparse_step": 1,
        "max_position_embeddings": 40960,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "mixtral-8x7b-v0.1": {
        "model_type": "mixtral",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "vocab_size": 129280,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "max_position_embeddings": 163840,
        "quantization_config": {"quant_method": "fp8"},
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "num_hidden_layers": 24,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "num_local_experts": 32,
        "experts_per_token": 4,
        "sliding_window": 128,
        "attention_bias": True,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "quantization_config": {"quant_method": "mxfp4"},
    },
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_folder_with_a_config_gives_the_catalog_entry(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    found, known = find_model(tmp_path), find_model(name)
    skip = {"name", "source", "date", "published_parameters"}
    assert found.model_dump(exclude=skip) == known.model_dump(exclude=skip)


def test_bad_folders(tmp_path):
    with pytest.raises(ServelabError, match=r"no config\.json"):
        find_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ServelabError, match="not JSON"):
        find_model(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({k: v for k, v in CONFIGS["llama-3.1-8b"].items() if k != "vocab_size"})
    )
    with pytest.raises(ServelabError, match="no vocab_size"):
        find_model(tmp_path)


def test_layers_that_are_not_modelled_are_refused():
    raw = CONFIGS["llama-3.1-8b"] | {"layer_types": ["linear_attention", "full_attention"] * 16}
    with pytest.raises(ServelabError, match="linear_attention"):
        from_config(raw, "x", "here")


def test_a_users_own_specs_are_strict():
    own = {"name": "x", "memory_bytes": 1, "memory_bandwidth_bytes_per_s": 1.0, "bf16_flops": 1.0}
    assert GpuSpec(**own).device_memory_bytes == 1
    with pytest.raises(ValidationError, match="bandwidth"):
        GpuSpec(**own, bandwidth=3)
    with pytest.raises(ValidationError, match="greater than 0"):
        GpuSpec(**(own | {"bf16_flops": -1.0}))
    with pytest.raises(ValidationError, match=r"kv_heads=3 does not divide attention_heads=4"):
        ModelSpec(
            name="x",
            layers=1,
            hidden_size=8,
            intermediate_size=8,
            attention_heads=4,
            kv_heads=3,
            head_dim=2,
            vocab_size=8,
            max_position_embeddings=8,
        )


def test_kv_heads_are_split_then_replicated_and_latents_are_everywhere():
    llama, deepseek = find_model("llama-3.1-8b"), find_model("deepseek-v3")
    assert [llama.kv_elements_per_token_layer(tp) for tp in (1, 4, 8, 16)] == [2048, 512, 256, 256]
    assert [deepseek.kv_elements_per_token_layer(tp) for tp in (1, 8)] == [576, 576]


def test_every_row_names_its_source_and_date():
    assert all(spec.source and spec.date for spec in (*load_gpus().values(), *load_models().values()))
    prices = load_prices()
    assert prices["as_of"].notna().all() and prices["source"].notna().all()
    assert set(prices["gpu"]) <= set(load_gpus())
    assert (prices["on_demand_usd_per_hour"] > 0).all() and (prices["gpu_count"] > 0).all()


def test_constants_are_read_by_name():
    assert constants("roofline")["memory_efficiency"] <= 1
