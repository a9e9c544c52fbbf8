"""Make JSON Lines files as people bring them, of any size: no two rows alike but where they are meant to be.

A row is a conversation of one to three exchanges, or an instruction with its answer; texts are drawn from a few thousand
sentences with numbers, code and seven languages. Of a hundred rows about five have something that validation must find:
repetitions, training rows that ask what an evaluation row asks, personal data, secrets, empty answers, control characters,
wrong encodings, roles out of order, wrong types, broken lines.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

_LANGUAGES = {
    "en": "the order of a large pizza with two colas was taken at noon and should be ready when you come by so please write it "
    "down as list name each item its size say how many there are then ask whether anything is missing or has to change "
    "before kitchen because nobody can read what we said to other on telephone function returns value index query table",
    "de": "die Bestellung einer großen Pizza mit zwei Cola wurde mittags aufgenommen und müsste fertig sein wenn du kommst "
    "bitte schreibe für jede Größe auf wie viele es gibt damit niemand später fragen muss ob noch etwas fehlt",
    "fr": "la commande d'une grande pizza avec deux colas a été prise à midi et devrait être prête quand vous passerez écrivez "
    "chaque élément sa taille combien il y en a puis demandez s'il manque quelque chose",
    "es": "el pedido de una pizza grande con dos colas se tomó al mediodía y debería estar listo cuando pases escribe cada "
    "artículo su tamaño cuántos hay después pregunta si falta algo mañana por la señora",
    "pl": "zamówienie dużej pizzy z dwoma napojami przyjęto w południe i powinno być gotowe gdy przyjdziesz zapisz każdą "
    "pozycję jej rozmiar ile ich jest potem zapytaj czy czegoś brakuje żółty",
    "ru": "заказ большой пиццы с двумя напитками был принят в полдень и должен быть готов когда вы придёте запишите "
    "каждый пункт",
    "ja": "注文 大きな ピザ 飲み物 二つ 正午 受け取り 準備 来る とき 書いて ください 数量 サイズ 確認",
}
_SHARES = {"en": 82, "de": 5, "fr": 4, "es": 4, "pl": 1, "ru": 2, "ja": 2}
_CODE = (
    "```python\ndef total(items):\n    return sum(item['price'] * item['count'] for item in items)\n```",
    "SELECT name, COUNT(*) FROM orders WHERE size >= 30 GROUP BY name;",
    "for (let i = 0; i < rows.length; i += 1) { console.log(rows[i].id); }",
    '{"items": [{"name": "pizza", "size": "large", "quantity": 2}]}',
)
_REFUSAL = "I am sorry, but I cannot help with that. Please ask me about something else."
_PERSONAL = (
    "Write to {first}.{second}@example.org please.", "Call me at +44 20 7946 {number:04d}.", "It is 4111 1111 1111 1111.",
    "The account is DE89 3704 0044 0532 0130 00.", "The key is ghp_" + "a1B2" * 9 + ".",
)  # fmt: skip
_SENTENCES = 50_000


class Corpus:
    """Draws texts and rows; the same seed draws the same."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        languages = self.random.choices(list(_SHARES), list(_SHARES.values()), k=_SENTENCES)
        self._sentences = {language: [] for language in _SHARES}
        for language in languages:
            self._sentences[language].append(self._sentence(_LANGUAGES[language].split()))
        self._languages, self._weights = list(_SHARES), list(_SHARES.values())

    def _sentence(self, words: list[str]) -> str:
        chosen = self.random.choices(words, k=self.random.randint(4, 24))
        if self.random.random() < 0.15:
            chosen.insert(2, f"{self.random.randint(1, 5000)}")
        if self.random.random() < 0.2:
            chosen[len(chosen) // 2] += ","
        return " ".join(chosen).capitalize() + self.random.choice(".....?!")

    def text(self, sentences: int) -> str:
        """Return a text of about so many sentences in one language."""
        language = self.random.choices(self._languages, self._weights)[0]
        count = max(1, round(self.random.lognormvariate(0, 0.6) * sentences))
        parts = self.random.choices(self._sentences[language], k=count)
        if self.random.random() < 0.04:
            parts.append(self.random.choice(_CODE))
        return (" " if self.random.random() < 0.8 else "\n\n").join(parts)

    def chat(self, number: int) -> dict[str, object]:
        """Return a row of the format chat."""
        messages = [{"role": "system", "content": "You take orders."}] if self.random.random() < 0.5 else []
        for _ in range(self.random.randint(1, 3)):
            messages.append({"role": "user", "content": self.text(2)})
            messages.append({"role": "assistant", "content": self.text(6)})
        return {"messages": messages, "id": number, "split": "test" if self.random.random() < 0.02 else "train"}

    def alpaca(self, number: int) -> dict[str, object]:
        """Return a row of the format alpaca."""
        further = self.text(2) if self.random.random() < 0.3 else ""
        split = "test" if self.random.random() < 0.02 else "train"
        return {"instruction": self.text(1), "input": further, "output": self.text(4), "id": number, "split": split}


def _answer(row: dict[str, object], change: Callable[[str], object]) -> None:
    messages = row.get("messages")
    holder, key = (messages[-1], "content") if isinstance(messages, list) else (row, "output")
    holder[key] = change(str(holder[key]))


def _swap_roles(row: dict[str, object]) -> None:
    messages = row.get("messages")
    if isinstance(messages, list):
        messages[-1]["role"], messages[-2]["role"] = messages[-2]["role"], messages[-1]["role"]


def _spoil(row: dict[str, object], kind: int, random_numbers: random.Random) -> None:
    """Put a problem into ``row``."""
    changes: tuple[Callable[[str], object], ...] = (
        lambda text: f"{text} {random_numbers.choice(_PERSONAL)}".format(
            first="ada", second="lovelace", number=random_numbers.randint(0, 9999)
        ) if "{" not in text else f"{text} ada.lovelace@example.org",
        lambda text: random_numbers.choice(("", " \n")) * bool(text),
        lambda text: f"{text[:20]}\x07{text[20:]}",
        lambda text: f"{text} schÃ¶n wÃ¤re es",
        lambda text: f"{text[:9]}\ufffd{text[9:]}",
        len,
        lambda _: _REFUSAL,
        lambda text: text * 100,
    )  # fmt: skip
    if kind == len(changes):
        _swap_roles(row)
    else:
        _answer(row, changes[kind])


_SPOIL_SHARES = (50, 10, 10, 5, 5, 5, 30, 1, 5)
"""Of each kind of ``_spoil`` among spoilt rows."""


def write_corpus(path: Path, size_bytes: int, *, row_format: str = "chat", seed: int = 0) -> int:
    """Write rows until the file has ``size_bytes``; return how many."""
    corpus = Corpus(seed)
    draw = corpus.random
    make = corpus.chat if row_format == "chat" else corpus.alpaca
    recent: list[bytes] = []
    rows = written = 0
    with path.open("wb") as file:
        while written < size_bytes:
            chance = draw.random()
            if recent and chance < 0.025:
                line = _changed_or_again(draw, recent)
            else:
                row = make(rows)
                if chance > 0.98:
                    _spoil(row, draw.choices(range(len(_SPOIL_SHARES)), _SPOIL_SHARES)[0], draw)
                line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            if draw.random() < 0.02 or not recent:
                recent = [*recent[-50:], line]
            file.write(line)
            written += len(line)
            rows += 1
    return rows


def _changed_or_again(draw: random.Random, recent: list[bytes]) -> bytes:
    """Return an earlier line again, cut off, or as a row of the other split."""
    line = draw.choice(recent)
    chance = draw.random()
    if chance < 0.01:
        return line[: len(line) // 2] + b"\n"
    if chance < 0.05:
        return line.replace(b'"split": "test"', b'"split": "train"').replace(b'"id": ', b'"id": 1')
    return line
