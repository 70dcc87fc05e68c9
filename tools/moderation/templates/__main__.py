"""Writes every family as JSON lines: `python3 -m templates OUT`, from the folder above. Same texts on every run."""

import json
import sys

from . import benign, harm, illicit, injection, people, sexual
from .grammar import Grammar

CATEGORIES = [
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic", "prompt-injection", "jailbreak",
]
ROOMS = {"people": people, "harm": harm, "illicit": illicit, "sexual": sexual, "injection": injection, "benign": benign}


def rows():
    for room, module in ROOMS.items():
        grammar = Grammar(module.SLOTS)
        for number, (family, (marks, count, templates)) in enumerate(module.FAMILIES.items()):
            unknown = {name[1:] for name in marks if name[0] == "?"}
            labels = {name: marks.get(name, 0) for name in CATEGORIES if name not in unknown}
            for line, text in enumerate(grammar.sample(templates, count, f"{room}/{family}")):
                yield {"id": f"tpl-{family}-{line}", "text": text, "sub": family, "labels": labels}


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for row in rows():
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


main()
