"""What the paper leaves open of its host, and our results by each plausible choice of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dcomc.estimate import Run, Speed
from dcomc.reproduce.claims import Claim


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

    @property
    def name(self) -> str:
        """The name of what is other than ours; empty for ours."""
        return named(
            "layers on the GPUs in turn" * self.in_turn,
            "prompts batched on the GPU" * self.batched,
            ALONE * self.alone,
        )


ALONE = "one prompt at a time on D-com"


OURS = HostChoice()
HOSTS = tuple(HostChoice(in_turn, batched) for in_turn in (False, True) for batched in (False, True))
UNBATCHED = tuple(choice for choice in HOSTS if not choice.batched)
"""The choices where no GPU decomposes."""
OF_SHORT = tuple(replace(choice, alone=alone) for choice in UNBATCHED for alone in (False, True))
"""The same where prompts are short: long ones have all clusters to themselves anyhow."""


def named(*choices: str) -> str:
    """Choices together: those that are not empty, which ours are."""
    return ", ".join(filter(None, choices))


def speed_name(speed: Speed) -> str:
    """The name of a choice of ranges; empty for ours, the middle."""
    return "" if speed == "middle" else f"the GPU at its {speed}"


def claim_of(what: str, paper: float, tolerance: float, values: Mapping[str, float], why: str = "") -> Claim:
    """A claim with ours, which has no name in `values`, and with the other choices, which have."""
    others = {name: value for name, value in values.items() if name}
    return Claim(what, paper, values[""], tolerance, choices=others, why=why)


def compare_runs(
    what: str,
    paper: float,
    tolerance: float,
    runs: Mapping[HostChoice, tuple[Run, Run]],
    value: Callable[[float], float] = float,
    why: str = "",
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
    return claim_of(what, paper, tolerance, values, why)
