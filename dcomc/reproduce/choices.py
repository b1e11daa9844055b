"""What the paper leaves open of its host, and our results by each plausible choice of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from dcomc.estimate import Run, Speed
from dcomc.reproduce.claims import CONSTANTS, Claim


@dataclass(frozen=True)
class HostChoice:
    """How the model is on its GPUs, and how a GPU decomposes: ours is what the paper says where it says something."""

    in_turn: bool = False
    """Each GPU holds some of the layers and works while the others wait, as transformers' `device_map` has it; or all
    share every layer by tensor parallelism, which section 5.1's "4-rank A100 GPU system" may mean."""
    batched: bool = False
    """Each kernel of a decomposition works on all prompts; or prompts come one after another (section 3.1)."""

    alone: bool = False
    """On a D-com each prompt has all clusters to itself, one prompt after another; or short ones stand side by side, as
    the compiler maps them."""

    four: bool = False
    """Each of the four inputs of a layer's products has a basis of its own; or all are projected on the basis of the
    first, as the paper's 3.1 has it: "once at the beginning of the layer"."""

    @property
    def name(self) -> str:
        """The name of what is other than ours; empty for ours."""
        return named(
            "layers on the GPUs in turn" * self.in_turn,
            "prompts batched on the GPU" * self.batched,
            FOUR * self.four,
            ALONE * self.alone,
        )

    @property
    def dense(self) -> "HostChoice":
        """The part of the choice that a dense model has."""
        return HostChoice(self.in_turn)


ALONE = "one prompt at a time on D-com"
FOUR = "four bases a layer"


def _choices(*names: str) -> tuple[HostChoice, ...]:
    """All combinations of some choices; ours is the first."""
    return tuple(
        HostChoice(**dict(zip(names, made, strict=True))) for made in product((False, True), repeat=len(names))
    )


OURS = HostChoice()
DENSE = _choices("in_turn")
"""The choices of a dense model."""
WITH_DCOM = _choices("in_turn", "four")
"""The choices where no GPU decomposes."""
HOSTS = _choices("in_turn", "batched", "four")
OF_SHORT = _choices("in_turn", "alone")
"""The choices where no GPU decomposes, and prompts are short: long ones have all clusters to themselves anyhow."""


def named(*choices: str) -> str:
    """Choices together: those that are not empty, which ours are."""
    return ", ".join(filter(None, choices))


def speed_name(speed: Speed) -> str:
    """The name of a choice of ranges; empty for ours, the middle."""
    return "" if speed == "middle" else f"{CONSTANTS}{speed}"


def claim_of(
    what: str, paper: float, tolerance: float, values: Mapping[str, float], why: str = "", group: str = ""
) -> Claim:
    """A claim with ours, which has no name in `values`, and with the other choices, which have.

    What is no row of a group is of the paper's text: a headline.
    """
    others = {name: value for name, value in values.items() if name}
    return Claim(what, paper, values[""], tolerance, choices=others, why=why, group=group, headline=not group)


def compare_runs(
    what: str,
    paper: float,
    tolerance: float,
    runs: Mapping[HostChoice, tuple[Run, Run]],
    value: Callable[[float], float] = float,
    why: str = "",
    group: str = "",
) -> Claim:
    """A claim on the time of one run over another, by host and with every range of the GPU for both at either end.

    Args:
        value: what is claimed, of that ratio.
    """
    values = {
        named(choice.name, speed_name(speed)): value(seconds / second.by_speed[speed])
        for choice, (first, second) in runs.items()
        for speed, seconds in first.by_speed.items()
    }
    return claim_of(what, paper, tolerance, values, why, group)
