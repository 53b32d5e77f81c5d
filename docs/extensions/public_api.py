"""For the directive ``public-api``: all public names of one subject, in the order of `simulator.PUBLIC`."""

import inspect

MEMBERS = {
    "Scenario": "of, load, opened_path, base_dir, to_mapping, stamp, to_yaml",
    "Result": "",  # all of its own
    "Plan": "bound",
    "Claim": "looks",
    "Runs": "rows",
}


def as_rst(subject: str) -> str:
    """Directives of autodoc for every name of ``subject``. Raises KeyError for a subject that does not exist."""
    import simulator

    lines: list[str] = []
    for module, names in simulator.PUBLIC[subject].items():
        for name in names.split():
            found = getattr(simulator, name)
            if inspect.ismodule(found):
                lines += [f".. automodule:: {module}", "   :members:", "   :imported-members:", ""]
            elif inspect.isclass(found) and issubclass(found, Exception):
                lines += [f".. autoexception:: simulator.{name}()", ""]
            elif inspect.isclass(found):
                lines += [f".. autoclass:: simulator.{name}()"]
                lines += [f"   :members: {MEMBERS[name]}".rstrip()] if name in MEMBERS else []
                lines += [""]
            elif inspect.isroutine(found):
                lines += [f".. autofunction:: simulator.{name}", ""]
            else:
                lines += [f".. py:data:: {name}", "", f"   Of `{module}`.", ""]
    return "\n".join(lines)
