"""A deployment as the command line of ``vllm serve`` [1]_.

Only what was set, or what the simulation takes otherwise than that vLLM version would, is written: the rest is left
to vLLM. `simulator.export.from_vllm_serve` is the way back.

.. [1] vLLM 0.32, ``vllm serve --help=all``; its flags are in data/vllm_serve_flags.csv.
"""

import shlex

from simulator.catalog import ModelSpec, hub_id
from simulator.cluster.deployment import Deployment
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.flags import EngineConfig
from simulator.errors import ServelabError

IN_FLIGHT = "fp8"  # the quantization that vLLM makes itself, of weights that have none


def flag_of(field: str) -> str:
    """The flag of a field of `EngineConfig`.

    >>> flag_of("max_num_seqs")
    '--max-num-seqs'
    """
    return "--" + field.replace("_", "-")


def published_id(deployment: Deployment, model_id: str | None = None) -> str:
    """The Hugging Face id that vLLM is to load: ``model_id``, else the one that the catalog has for the model.

    Raises ServelabError where the catalog has none, and where the quantization needs other weights than those.
    """
    if model_id is not None:
        if not model_id.strip() or model_id.startswith("-"):
            raise ServelabError(f"model id {model_id!r}: expected a Hugging Face id such as org/name, or a path")
        return model_id
    model = deployment.model
    found = hub_id(model) if isinstance(model, str) else None
    if found is None:
        name = model.name if isinstance(model, ModelSpec) else model
        raise ServelabError(
            f"deployment {deployment.name!r}: the catalog has no Hugging Face id for the model {name!r}; give the one "
            "that vLLM is to load (--model-id org/name)"
        )
    wanted, published = deployment.engine.quantization, deployment.model_spec().quantization or "none"
    if wanted not in (None, published) and (wanted, published) != (IN_FLIGHT, "none"):
        raise ServelabError(
            f"deployment {deployment.name!r}: engine.quantization={wanted!r} needs weights other than those of {found} "
            f"(quantization {published}); give the id of such weights (--model-id org/name)"
        )
    return found


def engine_arguments(engine: EngineConfig) -> list[str]:
    """The flags that ``engine`` sets, in the order of its fields."""
    out: list[str] = []
    for field in EngineConfig.model_fields:
        value = getattr(engine, field)
        if field == "version" or field not in engine.model_fields_set or value is None:
            continue
        if isinstance(value, bool):
            out.append(flag_of(field) if value else flag_of("no_" + field))
        elif field == "quantization" and value == "none":
            continue  # vLLM has no such value: it is what unquantized weights are
        elif field == "max_model_len" and value == -1:
            out += [flag_of(field), "auto"]
        else:
            out += [flag_of(field), repr(value) if isinstance(value, float) else str(value)]
    return out


def serve_arguments(deployment: Deployment, model_id: str | None = None) -> list[str]:
    """The arguments of ``vllm serve`` for one pod of ``deployment``, the model first.

    Raises ServelabError for a serving kind other than continuous and for a model whose Hugging Face id is unknown.
    """
    kind = deployment.serving.kind
    if kind != "continuous":
        raise ServelabError(
            f"deployment {deployment.name!r}: serving.kind={kind!r} is not what vLLM does; only continuous has a "
            "vllm serve command"
        )
    engine, ranks = deployment.engine, deployment.data_parallel_size
    if deployment.expert_parallel and ranks > 1:  # simulated so, see simulator.run.resolved
        engine = EngineConfig(**engine.model_dump(exclude_unset=True) | {"async_scheduling": False})
    out = [published_id(deployment, model_id), *engine_arguments(engine)]
    if ranks > 1:
        out += ["--data-parallel-size", str(ranks)]
    if deployment.expert_parallel:
        out.append("--enable-expert-parallel")
    processes = (deployment.api_server or ApiServerConfig()).processes
    if processes != ranks:  # vLLM starts one for each rank
        out += ["--api-server-count", str(processes)]
    return out


def serve_command(deployment: Deployment, model_id: str | None = None) -> str:
    """`serve_arguments` as a command for a shell, a flag a line."""
    lines = ["vllm serve"]
    for argument in serve_arguments(deployment, model_id):
        if argument.startswith("--"):
            lines.append("    " + argument)
        else:
            lines[-1] += " " + shlex.quote(argument)
    return " \\\n".join(lines)
