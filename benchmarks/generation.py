"""Text sampling speed of a character LSTM: one batch of texts compared with one text at a time.

    python benchmarks/generation.py [--rounds 3] [--batch 256] [--length 200] [--hidden 256]

All methods use the same untrained model, that of the sweep `text_generation` at sample scale (one layer of --hidden units, 64-wide
embeddings, 80 characters), on one thread, at temperature 1.

- batched: `ddl.models.language.generate`, --batch texts at once, keeping the LSTM's state.
- loop: one text, one model call per character, keeping the state, sampled with torch.multinomial.
- re-reading loop: as loop, but each call reads the last 40 characters again, for models that return a prediction and no state.

The methods take turns, --rounds times. The loops sample 2 texts per round: their time per character does not depend on the number
of texts. The clock is the thread's CPU time, because other processes may use the core. The result is the ratio within each round,
which is robust against drift of the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ddl.models.language import LanguageModel, generate, tempered

VOCABULARY, EMBEDDING, PROMPT, WINDOW, LOOP_TEXTS = 80, 64, 20, 40, 2


@torch.no_grad()
def loop(model: LanguageModel, prompt: torch.Tensor, length: int, reread: bool) -> torch.Tensor:
    """Sample one text of `length` characters after `prompt` [1, p], with one model call per character."""
    text, state = prompt, None
    for step in range(length):
        if reread:
            logits, _ = model(text[:, -WINDOW:])
        else:
            logits, state = model(text if step == 0 else text[:, -1:], state)
        probabilities = tempered(logits[:, -1], 1.0)
        text = torch.cat([text, torch.multinomial(probabilities, 1)], dim=1)
    return text


def speed(sample: Callable[[], object], characters: int) -> float:
    """Characters per CPU second of `sample`, which samples `characters` characters."""
    began = time.thread_time()
    sample()
    return characters / (time.thread_time() - began)


def main() -> None:
    """Run the benchmark and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LanguageModel(VOCABULARY, EMBEDDING, given.hidden, 1, 0.0).eval()
    prompts = torch.randint(1, VOCABULARY, (given.batch, PROMPT))
    temperatures, generator = torch.ones(given.batch), torch.Generator().manual_seed(0)

    def loops(reread: bool) -> None:
        for _ in range(LOOP_TEXTS):
            loop(model, prompts[:1], given.length, reread)

    methods: dict[str, tuple[Callable[[], object], int]] = {
        "batched": (lambda: generate(model, prompts, given.length, temperatures, generator), given.batch * given.length),
        "loop": (lambda: loops(reread=False), LOOP_TEXTS * given.length),
        "re-reading loop": (lambda: loops(reread=True), LOOP_TEXTS * given.length),
    }
    for sample, _ in methods.values():  # warm-up
        sample()
    rounds = []
    for number in range(given.rounds):
        rounds.append({name: speed(sample, characters) for name, (sample, characters) in methods.items()})
        print(f"round {number + 1}: " + ", ".join(f"{name} {value:,.0f} characters/s" for name, value in rounds[-1].items()))
    for name in ("loop", "re-reading loop"):
        ratios = sorted(one["batched"] / one[name] for one in rounds)
        print(
            f"batched (batch {given.batch}) / {name}: {statistics.median(ratios):.1f} times"
            f" (median of n = {len(ratios)} rounds, {ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
