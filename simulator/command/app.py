"""The command ``servelab``, put together in the order of its help. Heavy imports wait until a command needs them."""

from importlib.metadata import entry_points

import typer

from simulator.command import export
from simulator.command import list as listing
from simulator.command.capacity import capacity
from simulator.command.compare import compare
from simulator.command.explain import explain
from simulator.command.fit_workload import fit_workload
from simulator.command.from_serve import from_serve
from simulator.command.init import init
from simulator.command.open import open_
from simulator.command.plan import plan
from simulator.command.run import run
from simulator.command.schema import schema
from simulator.command.sweep import sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Simulate, calibrate and price an LLM deployment before buying the GPUs.",
)
app.add_typer(listing.app, name="list")
app.add_typer(export.app, name="export")
app.command("fit-workload")(fit_workload)
app.command()(plan)
app.command()(capacity)
app.command()(sweep)
app.command()(compare)
app.command("from-serve")(from_serve)
for _point in entry_points(group="servelab.commands"):
    _found = _point.load()
    if isinstance(_found, typer.Typer):
        app.add_typer(_found, name=_point.name)
    else:
        app.command(_point.name)(_found)
app.command()(run)
app.command()(explain)
app.command("open")(open_)
app.command()(init)
app.command()(schema)
