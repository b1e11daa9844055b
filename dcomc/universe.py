"""What xDSL's own tools find here through the entry point `xdsl.universe`: `xdsl-opt` and the GUI know our IR."""

from xdsl.universe import Universe

from dcomc.ir import OWN_DIALECTS
from passes import PASSES, UPSTREAM

DCOMC_UNIVERSE = Universe(
    all_dialects=dict(OWN_DIALECTS),
    all_passes={name: load for name, load in PASSES.items() if name not in UPSTREAM},
)
"""Our dialects and passes, each imported when it is asked for."""
