"""A compiled program, and what can be done with it: save it, simulate its decompositions, run the whole model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, atomic_write, counted
from runtime import program
from runtime.sequencer import ISSUE_LIMIT

if TYPE_CHECKING:
    import torch

    from dcomc.comparison import Comparison
    from dcomc.evaluate import Window
    from dcomc.model import Model, Tokenizer
    from dcomc.simulate import Simulation

Engine = Literal["auto", "reference", "fast"]


def factors_file(program: Path) -> Path:
    """Where the factors of a program's weights are: `prog.weights.safetensors` beside `prog.bin`."""
    return program.with_name(f"{program.name.removesuffix('.bin')}.weights.safetensors")


@dataclass(frozen=True, repr=False)
class Program(program.Program):
    """What `dcomc.compile` makes and prog.bin holds."""

    factors: Mapping[str, NDArray[Any]] | Path | None = field(default=None, compare=False)
    """The factors of weights, where it has some: by their names, or the file beside the program that holds them."""

    def __repr__(self) -> str:
        launches = counted(len(self.launches), "decomposition")
        return f"<Program for {self.machine.name}: {launches} by {counted(len(self.kernels), 'kernel')}>"

    def save(self, path: str | Path) -> None:
        """Write the program to a file, whole or not at all, and the factors of its weights beside it, as
        `prog.weights.safetensors`; `dcomc.load` reads it again.

        Raises:
            DcomError: the file cannot be written.
            ProgramError: the program does not hold together, so that reading would refuse it.
        """
        from dcomc.container import program_bytes

        data = program_bytes(self)
        if isinstance(self.factors, Mapping) and self.factors:
            from dcomc.factors import write_factors

            write_factors(factors_file(Path(path)), self.factors)
        with atomic_write(Path(path)) as file:
            file.write(data)

    def simulate(
        self,
        inputs: Mapping[str, NDArray[Any]] | NDArray[Any] | str | Path | None = None,
        *,
        seed: int = 0,
        timing_only: bool = False,
        errors: bool = True,
        engine: Engine = "auto",
        threads: int | None = None,
        memory_limit: int | None = None,
        max_instructions: int = ISSUE_LIMIT,
        progress: bool = False,
    ) -> "Simulation":
        """Run every decomposition on the simulated machine: cycles, and the errors of the factors.

        Args:
            inputs: activations: arrays [S, H] or [B, S, H] by launch, such as `layer10.qkv`; one array for every
                launch of its shape; or an .npy or .npz file of them. Launches without one take those stored in the
                program, else matrices with a decaying spectrum made from the seed.
            seed: 0 or more.
            timing_only: count cycles without data.
            errors: compare the factors with the activations, which for large ones takes longer than to find them.
            engine: `reference` (NumPy) or `fast` (compiled on first use), which give the same; `auto`: by the work.
            threads: prompts at a time; as many as there are processors unless given.
            memory_limit: bytes; fewer threads beyond it.
            max_instructions: that a stream may issue; one that would issue more where no exit leaves is refused before
                anything runs.
            progress: say on stderr what goes on.

        Raises:
            DcomError: inputs that fit no launch or are not finite, a negative seed, or too small a limit of memory.
            MachineFault: a program that does what the machine cannot do, or issues too much.
        """
        from dcomc.activations import given_activations
        from dcomc.progress import WorkProgress, speaker
        from dcomc.simulate import Simulation, choose_inputs, plan_simulation, simulate_launches
        from runtime.accelerator import check_lengths
        from runtime.engines import PATIENCE_SECONDS

        if seed < 0:
            raise DcomError(f"seed {seed} is negative", hint="give 0 or more")
        check_lengths(self, max_instructions)
        if timing_only:
            if inputs is not None:
                raise DcomError("timing alone needs no input", hint="leave one of them out")
            results = simulate_launches(self, None, max_instructions=max_instructions)
            return Simulation(self.machine, tuple(results), None, seed)
        say = speaker(progress)
        given, name = (None, "") if inputs is None else given_activations(inputs)
        chosen = plan_simulation(self, given, errors, engine=engine, threads=threads, memory_limit=memory_limit)
        if chosen.seconds > PATIENCE_SECONDS:
            say(str(chosen))
        if isinstance(given, dict):
            unused = [key for key in given if key not in {launch.key for launch in self.launches}]
            if unused and len(unused) < len(given):
                say(f"{name}: not used by the program: {', '.join(unused)}")
        choose = choose_inputs(self, given, name, seed)
        prompts = sum(launch.prompts for launch in self.launches)
        with WorkProgress(prompts, "simulating", "prompts", quiet=not progress) as bar:
            results = simulate_launches(
                self,
                choose,
                engine=chosen.engine,
                threads=chosen.threads,
                errors=errors,
                max_instructions=max_instructions,
                progress=bar.advance,
            )
            return Simulation(self.machine, tuple(results), chosen, seed)

    def run(
        self,
        model: "Model | str | Path | torch.nn.Module",
        text: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        decompose_with: Literal["sim", "float32"] = "sim",
        controls: bool = True,
        engine: Engine = "auto",
        threads: int | None = None,
        memory_limit: int | None = None,
        backend: Literal["numpy", "torch"] = "torch",
        device: str = "cpu",
        progress: bool = False,
    ) -> "Comparison":
        """Run the whole model on a text with its layers decomposed, and the dense one on the same tokens.

        Args:
            model: the model that was traced: Hugging Face folder, GGUF file, preset whose weights are installed, or a
                model of transformers in memory, which came from a folder with a tokenizer.
            text: cut into windows of the program's tokens; or tokens themselves, for which no tokenizer is needed.
            max_tokens: only so many from its start, at least 2.
            decompose_with: simulated instructions, or float32 Lanczos on the host, which is faster.
            controls: also run what the result is to be judged by (`dcomc.comparison.CONTROLS`).
            engine, threads, memory_limit: of the simulation, as for `simulate`.
            backend: the library that runs all but the simulated decompositions.
            device: where torch computes, such as `cuda:0`.
            progress: say on stderr what goes on.

        Raises:
            DcomError: a text of less than 2 tokens, a model that is not the one traced or has no weights, a program
                without a model or whose launches are not its host's, or a device that is not there.
        """
        from dcomc.comparison import compare
        from dcomc.evaluate import split_windows

        if max_tokens is not None and max_tokens < 2:
            raise DcomError(f"max-tokens {max_tokens} is too few", hint="it goes from 2 upwards")

        def make_windows(tokenizer: "Callable[[], Tokenizer]", batch: int, seq_len: int) -> "Sequence[Window]":
            tokens = tokenizer().encode(text) if isinstance(text, str) else text
            return split_windows(tokens[:max_tokens], batch, seq_len)

        return compare(
            self,
            model,
            make_windows,
            decompose_with=decompose_with,
            controls=controls,
            engine=engine,
            threads=threads,
            memory_limit=memory_limit,
            backend=backend,
            device=device,
            progress=progress,
        )
