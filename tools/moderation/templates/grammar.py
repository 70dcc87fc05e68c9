"""A small sentence grammar: `[slot]` draws from a list, `{a|b|}` chooses, both may nest. Seeded, so runs are equal."""

import random
import re

SLOT = re.compile(r"\[([a-z_0-9]+)\]")
CHOICE = re.compile(r"\{([^{}]*)\}")


class Grammar:
    """Expands templates with the given slots."""

    def __init__(self, slots):
        self.slots = slots

    def expand(self, template, rng):
        text = template
        for _ in range(12):
            before = text
            text = CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), text)
            text = SLOT.sub(lambda m: rng.choice(self.slots[m.group(1)]), text)
            if text == before:
                break
        text = re.sub(r"\s+", " ", text).strip()
        return re.sub(r"\s+([,.!?;:])", r"\1", text)

    def sample(self, templates, count, seed):
        """Up to `count` different texts, every template about equally often."""
        rng = random.Random(seed)
        seen, texts = set(), []
        for turn in range(count * 4):
            text = self.expand(templates[turn % len(templates)], rng)
            if text.lower() not in seen:
                seen.add(text.lower())
                texts.append(style(text, rng))
            if len(texts) == count:
                break
        return texts


def style(text, rng):
    """Writes a text as people do: sometimes all lower case, without a stop, or with a capital."""
    draw = rng.random()
    if draw < 0.25:
        return text.lower().rstrip(".")
    text = text[:1].upper() + text[1:]
    if text[-1:].isalnum() and draw < 0.75:
        text += "."
    return text
