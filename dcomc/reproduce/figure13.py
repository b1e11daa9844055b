"""Figure 13: area and power, which need areas and energies of units."""

from pathlib import Path

from dcomc.reproduce.claims import Claim, Result, paper_claims
from dcomc.reproduce.workbench import Workbench

_CONFIGS = Path(__file__).parents[1] / "configs"


def reproduce(bench: Workbench) -> Result:
    """The claims, with what is missing to compare with them."""
    paper, folders = paper_claims()["claims"], sorted(path.name for path in _CONFIGS.iterdir() if path.is_dir())
    why = (
        "there are descriptions of a technology, but no model of area and energy reads them yet"
        if "technologies" in folders
        else f"there is no description of areas and energies (there are {', '.join(folders)})"
    )
    claims = [
        Claim("area over a systolic array's, more in percent", paper["area_vs_systolic_percent"], None, why=why),
        Claim("power over a systolic array's, more in percent", paper["power_vs_systolic_percent"], None, why=why),
        Claim("area of an equal share of an A100 over D-com's", paper["area_advantage_vs_a100_share"], None, why=why),
    ]
    return Result("figure13", claims, "Nothing was run.", (), bench.configuration)
