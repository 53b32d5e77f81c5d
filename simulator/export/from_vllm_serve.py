"""A scenario from a command line of ``vllm serve`` that already runs somewhere.

data/vllm_serve_flags.csv lists vLLM's flags. Those that shape the simulation become fields, those without effect on
batches and memory are counted as ignored, and those with an effect that is not simulated are warned of.
"""

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from simulator.catalog import find_gpu, find_model, load_serve_flags
from simulator.engine.config import EngineConfig, parse, resolve
from simulator.errors import ServelabError, nearest
from simulator.scenario import Scenario

MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.cli.main")
SET = re.compile(r"([A-Za-z_]\w*)=")
QUIET = re.compile(r"(?!VLLM_)|VLLM_(API_KEY|LOGGING_\w+|\w*CACHE\w*|DO_NOT_TRACK|NO_USAGE_STATS|PORT|HOST_IP)$")
HUMAN = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
PLACEHOLDER = {"source": "azure_conversation", "rate_rps": 4.0, "duration_s": 1800.0}


@dataclass(frozen=True)
class FromServe:
    """What a command says. ``mapping``: the scenario, only what was given; ``ignored``, ``warnings``: sentences."""

    scenario: Scenario
    mapping: dict[str, Any]
    ignored: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_yaml(self, folder: Path = Path()) -> str:
        """A scenario file for ``folder``, with what was left out as comments."""
        mapping = {**self.mapping, "deployments": [dict(d) for d in self.mapping["deployments"]]}
        target = self.scenario.base_dir / mapping["deployments"][0]["model"]
        if (target / "config.json").is_file():
            mapping["deployments"][0]["model"] = os.path.relpath(target, folder)
        head = ["# Read from a vllm serve command."]
        head += [f"# Ignored, no effect on the simulation: {', '.join(self.ignored)}"] if self.ignored else []
        head += [f"# Warning: {w}" for w in self.warnings]
        return "\n".join([*head, yaml.safe_dump(mapping, sort_keys=False)])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ServelabError(f"vllm serve: {message}")


def _parser() -> _Parser:
    """A parser of every flag in the table; what is not given stays out of its namespace."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("model_tag", nargs="?")
    shapes: dict[str, dict[str, Any]] = {
        "switch": {"action": argparse.BooleanOptionalAction},
        "mark": {"action": "store_true"},
        "values": {"nargs": "+"},
        "perhaps": {"nargs": "?"},
        "value": {},
    }
    for flag, row in load_serve_flags().items():
        parser.add_argument(flag, *row.get("other_names", "").split(), **shapes[row["takes"]], dest=flag)
    return parser


def _words(command: str) -> tuple[list[str], list[str]]:
    """Names of environment variables set before the command, and its arguments after ``vllm serve``."""
    try:
        words = shlex.split(command.replace("\\\n", " ").replace("\\\r\n", " "))
    except ValueError as problem:
        raise ServelabError(f"the command cannot be read as a shell would: {problem}") from None
    for word in words:
        if word in ("|", "||", "&&", ";", "&") or re.match(r"\d?[<>]", word):
            raise ServelabError(f"the command holds {word!r}: give the vllm serve command alone")
    for i, word in enumerate(words):
        after, names = words[i + 1 : i + 2], [found[1] for w in words[:i] if (found := SET.match(w))]
        if Path(word).name == "vllm" and after == ["serve"]:
            return names, words[i + 2 :]
        if word == "-m" and after and after[0] in MODULES:
            rest = words[i + 2 :]
            return names, rest[1:] if after[0] == MODULES[1] and rest[:1] == ["serve"] else rest
    start = command.strip().split("\n")[0][:60]
    raise ServelabError(f"expected `vllm serve MODEL ...` or `python -m {MODULES[0]} ...`, got {start!r}")


def _plain(word: str) -> str:
    """A flag as the table has it: underscores as dashes, no key of a JSON value, ``-O3`` written out.

    >>> _plain("--max_num_seqs=8"), _plain("--compilation-config.mode=3"), _plain("-O2")
    ('--max-num-seqs=8', '--compilation-config=3', '--optimization-level=2')
    """
    if re.fullmatch(r"-O\d", word):
        return f"--optimization-level={word[2]}"
    if not re.match(r"--?[A-Za-z]", word):
        return word
    name, sign, value = word.partition("=")
    return name.split(".")[0].replace("_", "-") + sign + value


def given_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Long name of each given flag -> its value, as text, list or bool; ``model_tag`` -> the model.

    Raises ServelabError for a flag that vLLM does not have, with the nearest, and for a missing value.
    """
    words = [_plain(word) for word in arguments]
    found, left = _parser().parse_known_args(words)
    for word in left:
        name = word.split("=")[0]
        if not word.startswith("-"):
            raise ServelabError(f"vllm serve: {word!r} belongs to no flag")
        hint = nearest(name, load_serve_flags())
        raise ServelabError(f"{name}: vllm serve has no such flag{hint}")
    return {k: v for k, v in vars(found).items() if v is not None}


def count(flag: str, text: str) -> int:
    """A whole number as vLLM reads it: 16k is 16000, 16K is 16384, auto is -1.

    >>> count("--max-model-len", "16k"), count("--max-model-len", "16K"), count("--max-model-len", "auto")
    (16000, 16384, -1)
    """
    text = text.strip()
    if flag == "--max-model-len" and text.lower() == "auto":
        return -1
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgGtT]?)", text)
    if not found or ("." in found[1] and (not found[2] or found[2].isupper())):
        raise ServelabError(f"{flag}: expected a whole number such as 16384, 16k or 16K, got {text!r}")
    return int(float(found[1]) * HUMAN[found[2]]) if found[2] else int(found[1])


def _engine(given: Mapping[str, Any], version: str) -> EngineConfig:
    flags: dict[str, Any] = {"version": version}
    for flag, value in given.items():
        field = flag.removeprefix("--").replace("-", "_")
        if field in EngineConfig.model_fields and value != "None":
            whole = field in ("max_model_len", "max_num_batched_tokens")
            flags[field] = count(flag, value) if whole else value
    return parse(flags)


def scenario_from_serve(
    command: str,
    gpu: str,
    *,
    version: str = "0.32",
    name: str = "llm",
    workload: Mapping[str, Any] | None = None,
    base_dir: Path = Path(),
) -> FromServe:
    """The scenario of one pod that ``command`` starts on ``gpu``.

    Args:
        version: of vLLM; the command does not say it.
        workload: the traffic, which the command does not say either; None: a placeholder.
        base_dir: where a relative model folder starts.

    Raises ServelabError for what is no ``vllm serve`` command, an unknown flag, model or GPU, and flags that vLLM
    would refuse on this GPU.
    """
    names, arguments = _words(command)
    given = given_flags(arguments)
    model = given.pop("model_tag", given.get("--model"))
    table = load_serve_flags()
    for flag in given:
        if table[flag]["effect"] == "refused":
            reason = (
                "config files are not read: write its flags out in the command"
                if flag == "--config"
                else "give the leader's command"
            )
            raise ServelabError(f"{flag}: {reason}")
    if model is None:
        raise ServelabError("the command names no model: expected vllm serve MODEL ...")
    engine = _engine(given, version)
    deployment: dict[str, Any] = {
        "name": name,
        "model": model,
        "gpu": gpu,
        "engine": engine.model_dump(mode="json", exclude_unset=True),
    }
    warnings = [
        f"{f}: changes how vLLM runs, and is not simulated" for f in given if table[f]["effect"] == "not modelled"
    ]
    warnings += [f"{n}: an environment variable of vLLM, not simulated" for n in names if not QUIET.match(n)]
    ranks, servers = (_whole(given, f) for f in ("--data-parallel-size", "--api-server-count"))
    spec = find_model(base_dir / model if (base_dir / model / "config.json").is_file() else model)
    experts = bool(given.get("--enable-expert-parallel"))
    if ranks > 1:
        deployment["data_parallel_size"] = ranks
        if experts and spec.moe_layers:
            deployment["expert_parallel"] = True
        elif spec.moe_layers:
            warnings.append("the ranks of a model with experts wait for each other in vLLM; simulated as independent")
    if experts and "expert_parallel" not in deployment:
        warnings.append("--enable-expert-parallel: simulated only with data_parallel_size above 1 and a MoE model")
    processes = servers if "--api-server-count" in given else ranks
    if processes != 1:
        deployment["api_server"] = {"processes": processes}
    if engine.pipeline_parallel_size > 1:
        warnings.append("--pipeline-parallel-size: its memory is worked out, but servelab run does not simulate it yet")
    if engine.tensor_parallel_size > find_gpu(gpu).gpus_per_node:
        deployment["across_nodes"] = True
    mapping = {"schema_version": 1, "workload": dict(workload or PLACEHOLDER), "deployments": [deployment]}
    if workload is None:
        warnings.append("the command does not say the traffic: the workload is a placeholder")
    scenario = Scenario.of(mapping, base_dir)
    resolve(scenario.deployments[0].engine, spec, find_gpu(gpu))
    ignored = [f for f in given if table[f]["effect"] == "none"] + [n for n in names if QUIET.match(n)]
    return FromServe(scenario, mapping, tuple(ignored), tuple(warnings))


def _whole(given: Mapping[str, Any], flag: str) -> int:
    value = given.get(flag, "1")
    if not re.fullmatch(r"[1-9]\d*", value):
        raise ServelabError(f"{flag}: expected a whole number from 1 on, got {value!r}")
    return int(value)
