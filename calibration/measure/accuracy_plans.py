"""What `make accuracy` measures: two small models on real vLLM, and what the limits of docs/accuracy.md are judged on.

Every plan is one start of the engine. The engine has one core, its clients the other; where two engines run, each has
one.
"""

import json
from pathlib import Path
from typing import Any

from calibration.oracle.campaign import FLOOD, batches, flood, load, mix, sessions, spread

ENGINE: dict[str, Any] = {
    "load_format": "dummy",
    "dtype": "float32",
    "max_model_len": 1024,
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "block_size": 32,
    "enable_prefix_caching": False,
    "enforce_eager": True,
    "distributed_executor_backend": "uni",
    "num_gpu_blocks_override": 1024,
}
MODELS = {  # layers, hidden, intermediate, heads, KV heads, vocabulary
    "llama-2l-512h": (2, 512, 1408, 8, 4, 4096),
    "llama-4l-256h": (4, 256, 704, 4, 2, 4096),
}
REPEATS = 3
REQUESTS = 600
CHOICE_RPS = 14.0
CHOICES = [
    {"max_num_seqs": seqs, "max_num_batched_tokens": tokens, "num_gpu_blocks_override": blocks}
    for seqs in (4, 16, 48)
    for tokens in (96, 512)
    for blocks in (40, 300)
]


def write_model(folder: Path, name: str) -> Path:
    """The ``config.json`` of a Llama with made-up sizes: all that vLLM needs with dummy weights."""
    layers, hidden, inner, heads, kv_heads, vocabulary = MODELS[name]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(config))
    return folder / name


def calibration_runs(requests: int = REQUESTS, repeats: int = REPEATS) -> list[dict[str, Any]]:
    """Batches to fit, loads to fit the API server, and the loads that validate, in an order that spreads repeats."""
    length = ENGINE["max_model_len"]
    batch_runs = batches(32, 512, length, 1023 * 32, repeats=3, seed=1)
    half = len(batch_runs) // 3
    runs: list[dict[str, Any]] = []
    base, other = mix(requests, 128, 24, length, 2), mix(requests, 48, 64, length, 3)
    runs += [flood(FLOOD, base[:300]), flood("flood-other", other[:300])]
    for share in (0.3, 0.6, 0.9):
        runs.append(load(f"api-{share:.0%}", mix(200, 128, 24, length, int(1000 * share)), share, phase="api"))
    for repeat in range(repeats):
        for share in (0.5, 0.85, 1.1):
            runs.append(load(f"mix-{share:.0%}-{repeat}", base, share))
        runs.append(load(f"other-85%-{repeat}", other, 0.85, "flood-other"))
    return batch_runs[:half] + spread(runs, batch_runs[half:])


def plans(folder: Path) -> dict[str, dict[str, Any]]:
    """All plans by name, in the order of measuring."""
    length = ENGINE["max_model_len"]
    out: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        out[name] = {"runs": calibration_runs(), "model": name}
    small = "llama-4l-256h"
    warm: dict[str, Any] = {
        "name": "warm-up",
        "kind": "load",
        "phase": "load",
        "requests": [r | {"at": r["at"] / 20} for r in mix(40, 64, 16, length, 9)],
    }
    talks = sessions(60, 5, 96, 40, 24, length, 5)
    out["sessions"] = {
        "model": small,
        "engine": {"enable_prefix_caching": True},
        "runs": [
            warm,
            *(
                {"name": f"sessions-{i}", "kind": "load", "phase": "load", "rate": 3.0, "requests": talks}
                for i in range(REPEATS)
            ),
        ],
    }
    tight = mix(300, 128, 48, length, 6)
    out["preempting"] = {
        "model": small,
        "engine": {"num_gpu_blocks_override": 48},
        "runs": [warm, flood(FLOOD, tight[:100]), *(load(f"tight-90%-{i}", tight, 0.9) for i in range(REPEATS))],
    }
    both = mix(REQUESTS, 128, 24, length, 7)
    out["two-engines"] = {
        "model": small,
        "engines": 2,
        "threads": ["0", "1"],
        "runs": [warm, flood(FLOOD, both[:300]), *(load(f"both-70%-{i}", both, 0.7) for i in range(REPEATS))],
    }
    traffic = mix(400, 128, 32, length, 8)
    for i, choice in enumerate(CHOICES):
        runs = []
        for repeat in range(2):
            runs.append({**warm, "name": f"warm-up-{repeat}"})
            runs.append(
                {"name": f"choice-{repeat}", "kind": "load", "phase": "load", "rate": CHOICE_RPS, "requests": traffic}
            )
        out[f"choice-{i:02d}"] = {"model": small, "engine": choice, "runs": runs}
    for name, plan in out.items():
        plan |= {"model": str(write_model(folder / "models", plan["model"])), "seed": 1}
        plan["engine_args"] = ENGINE | plan.pop("engine", {})
        plan.setdefault("threads", ["0"])
        plan["name"] = name
    return out
