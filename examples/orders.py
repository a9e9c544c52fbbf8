"""Make the orders example: an order in loose words becomes strict JSON.

A skill with one right answer that a small base model does not have. Rows are chat messages; ``split`` marks the held-out
rows, whose sets of (name, size, quantity) never occur in training. Everything follows from the seed:

    python -m examples.orders > examples/data/orders.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

TRAIN_ROWS = 360
EVAL_ROWS = 100
SEED = 7

SYSTEM = "Answer with the order as JSON: customer, items (name, size, quantity), takeaway."
DRINKS = ("latte", "tea", "mocha", "espresso", "cocoa", "lemonade", "cappuccino", "smoothie")
FOODS = ("bagel", "muffin", "salad", "sandwich", "soup", "brownie", "croissant", "wrap")
SIZES = ("small", "medium", "large")
CUSTOMERS = (
    "Ana", "Ben", "Chloe", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kate", "Leo", "Maria", "Nina",
    "Omar", "Paul", "Rosa", "Sam", "Tom", "Vera",
)  # fmt: skip
NUMBERS = {1: ("a", "one"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4"), 5: ("five", "5"), 6: ("six", "half a dozen")}
SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium", "regular"), "large": ("large", "big")}
PLURALS = {"sandwich": "sandwiches", "tea": "teas", "cocoa": "cocoas", "espresso": "espressos"}
OPENINGS = ("Hi, {who} here.", "This is {who}.", "Order for {who}:", "Hello, it's {who}!", "{who} speaking.", "Name's {who}.")
WISHES = ("{what}, please.", "I'd like {what}.", "Can I get {what}?", "I'll have {what}.", "We need {what}.", "Just {what}.")
AWAY = ("To go.", "Takeaway.", "I'll pick it up.", "Wrap it up for me.")
HERE = ("For here.", "We'll eat in.", "I'll sit inside.", "Eating at the table.")


@dataclass(frozen=True, order=True)
class Item:
    """One line of an order. ``quantity`` is 1 to 6."""

    name: str
    size: str
    quantity: int


def order_rows(seed: int = SEED) -> list[dict[str, object]]:
    """Return ``TRAIN_ROWS`` rows marked ``train``, then ``EVAL_ROWS`` marked ``eval``, all different."""
    rng = random.Random(seed)
    orders = list(_different_orders(rng, TRAIN_ROWS + EVAL_ROWS))
    splits = ["train"] * TRAIN_ROWS + ["eval"] * EVAL_ROWS
    return [_row(rng, items, split) for items, split in zip(orders, splits, strict=True)]


def _different_orders(rng: random.Random, count: int) -> Iterator[tuple[Item, ...]]:
    seen: set[frozenset[Item]] = set()
    while len(seen) < count:
        names = rng.sample(DRINKS + FOODS, rng.choice((1, 1, 2)))
        items = tuple(Item(name, rng.choice(SIZES), rng.randint(1, 6)) for name in names)
        if frozenset(items) not in seen:
            seen.add(frozenset(items))
            yield items


def _row(rng: random.Random, items: tuple[Item, ...], split: str) -> dict[str, object]:
    customer, is_takeaway = rng.choice(CUSTOMERS), rng.random() < 0.5
    what = " and ".join(_words(rng, item) for item in items)
    parts = [
        rng.choice(OPENINGS).format(who=customer),
        rng.choice(WISHES).format(what=what),
        rng.choice(AWAY if is_takeaway else HERE),
    ]
    answer = {
        "customer": customer,
        "items": [{"name": item.name, "size": item.size, "quantity": item.quantity} for item in items],
        "takeaway": is_takeaway,
    }
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": " ".join(parts)},
            {"role": "assistant", "content": json.dumps(answer)},
        ],
        "split": split,
    }


def _words(rng: random.Random, item: Item) -> str:
    name = item.name if item.quantity == 1 else PLURALS.get(item.name, item.name + "s")
    return f"{rng.choice(NUMBERS[item.quantity])} {rng.choice(SIZE_WORDS[item.size])} {name}"


def main() -> None:
    """Write the rows as JSON Lines to standard output."""
    for row in order_rows():
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
