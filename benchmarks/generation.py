"""Characters a second that are drawn from a character LSTM: all texts in one batch against one text after the other.

    python benchmarks/generation.py [--rounds 3] [--batch 256] [--length 200] [--hidden 256]

The same model, as the sweep `text_generation` has it at sample scale (one layer of --hidden units, 64 wide embeddings, 80 characters),
untrained, on one thread, at temperature 1.

- batched: `ddl.models.language.generate`, --batch texts at once, the LSTM's state kept.
- loop: one text, one call of the model a character, the state kept, the character drawn with torch.multinomial.
- re-reading loop: the same, but each call reads the last 40 characters again, as where a model is asked for a prediction only.

The contestants take turns, --rounds times. Each is timed, in seconds of its thread's CPU time (all of it is on that one thread, and
other processes may share the core), for as many characters as it draws in a text (the loops draw 2 texts a
round: a character costs them the same however many texts there are). What is reported is the ratio within a round: machines drift.
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
    """One text of `length` characters after `prompt` [1, p], one call a character."""
    text, state = prompt, None
    for step in range(length):
        if reread:
            scores, _ = model(text[:, -WINDOW:])
        else:
            scores, state = model(text if step == 0 else text[:, -1:], state)
        probabilities = tempered(scores[:, -1], 1.0)
        text = torch.cat([text, torch.multinomial(probabilities, 1)], dim=1)
    return text


def rate(draw: Callable[[], object], characters: int) -> float:
    began = time.thread_time()
    draw()
    return characters / (time.thread_time() - began)


def main() -> None:
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
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "batched": (lambda: generate(model, prompts, given.length, temperatures, generator), given.batch * given.length),
        "loop": (lambda: [loop(model, prompts[:1], given.length, reread=False) for _ in range(LOOP_TEXTS)], LOOP_TEXTS * given.length),
        "re-reading loop": (
            lambda: [loop(model, prompts[:1], given.length, reread=True) for _ in range(LOOP_TEXTS)],
            LOOP_TEXTS * given.length,
        ),
    }
    for draw, _ in contestants.values():  # warm-up
        draw()
    rounds = []
    for number in range(given.rounds):
        rounds.append({name: rate(draw, characters) for name, (draw, characters) in contestants.items()})
        print(f"round {number + 1}: " + ", ".join(f"{name} {value:,.0f} characters/s" for name, value in rounds[-1].items()))
    for name in ("loop", "re-reading loop"):
        ratios = sorted(one["batched"] / one[name] for one in rounds)
        print(
            f"batched (batch {given.batch}) / {name}: {statistics.median(ratios):.1f} times"
            f" (median of n = {len(ratios)} rounds, {ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
