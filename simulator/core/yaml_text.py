"""YAML that is read strictly: duplicate keys are faults, 1e-3 is a number, and ``path=value`` changes one place."""

import re
from typing import Any

import yaml

from simulator.errors import ServelabError


class _Loader(yaml.SafeLoader):
    """YAML whose duplicate keys are errors and whose 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=deep)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, what: str) -> dict[str, Any]:
    """The mapping that ``text`` is; ``what`` it is called. Raises ServelabError for anything else."""
    mapping = yaml_value(text, what)
    if not isinstance(mapping, dict):
        raise ServelabError(f"{what}: expected a mapping, got {type(mapping).__name__}")
    return mapping


def yaml_value(text: str, what: str) -> Any:
    """The value that ``text`` is. Raises ServelabError for what is not YAML, or holds what cannot be made of it,
    such as 2024-99-99."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ServelabError(f"{what} is not YAML that can be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as problem:
        raise ServelabError(f"{what} is not YAML: {problem}") from None


def overridden(mapping: dict[str, Any], override: str) -> dict[str, Any]:
    """``mapping`` with one ``path=value`` applied; the value is YAML, and a mapping replaces the subtree.

    >>> overridden({"deployments": [{"replicas": 1}]}, "deployments.0.replicas=4")
    {'deployments': [{'replicas': 4}]}
    """
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise ServelabError(f"--set {override!r}: expected path=value, such as deployments.0.replicas=4")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        raise ServelabError(f"--set {override!r}: the value is not YAML: {problem}") from None

    def put(node: Any, keys: list[str], at: str) -> Any:
        if not keys:
            return value
        key, rest = keys[0], keys[1:]
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ServelabError(
                    f"--set {override!r}: {at or 'the scenario'} has no item {key!r}, it has {len(node)}"
                )
            return [put(v, rest, f"{at}.{key}") if i == int(key) else v for i, v in enumerate(node)]
        node = {} if node is None else node
        if not isinstance(node, dict):
            raise ServelabError(f"--set {override!r}: {at} is {node!r}, it has no field {key!r}")
        return {**node, key: put(node.get(key), rest, f"{at}.{key}".lstrip("."))}

    return put(mapping, path.split("."), "")
