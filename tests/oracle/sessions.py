"""A seed's script of sessions: texts in every wrapping that the protocol has, leaving and coming back, turn by turn."""

from __future__ import annotations

import random

from pgpool_core.testing import frontend
from tests.oracle.script import Again, Beginning, Item, Script, Talk
from tests.oracle.statements import INVENTORY, KINDS, Text, Who, back, beginning, goes_back

__all__ = ["script_of"]


def script_of(seed: int) -> Script:
    """The same script for the same seed. Each run favours a few kinds of text, so that they meet each other."""
    rng = random.Random(seed)
    weights = {name: weight for name, (weight, _) in KINDS.items()}
    for name in rng.sample(sorted(weights), 4):
        weights[name] *= 4
    clients = rng.choice((2, 2, 3, 4))
    turns: list[tuple[int, Item]] = []
    begins = [_beginning(rng) for _ in range(clients)]
    makers = _Makers(rng, list(weights), list(weights.values()), seed, dict(enumerate(begins)))
    for _ in range(rng.choice((12, 20, 30))):
        who = rng.randrange(clients)
        if rng.random() < 0.04:
            turns.append((who, makers.again(who)))
        elif rng.random() < 0.05:
            turns += [(who, item) for item in makers.back(who)]
        else:
            turns.append((who, makers.talk(who)))
    return Script(seed, rng.choice((1, 1, 2)), [*begins, Beginning()], [*turns, *_looks(clients)])


def _looks(clients: int) -> list[tuple[int, Item]]:
    """At the end everybody looks at what they have, and somebody new does."""
    look = Talk(frontend.query(INVENTORY), 1, "inventory")
    last: list[tuple[int, Item]] = [(who, Talk(frontend.query("rollback"), 1, "rollback")) for who in range(clients)]
    for who in range(clients):
        last += [(who, look), (who, Again("terminate", Beginning()))]
    return [*last, (clients, look), (clients, Again("terminate", Beginning("boss"))), (clients, look)]


def _beginning(rng: random.Random) -> Beginning:
    user, parameters = beginning(rng)
    return Beginning(user, parameters)


class _Makers:
    """Makes items; what is a client's own is new in each of its lives."""

    def __init__(
        self, rng: random.Random, names: list[str], weights: list[int], seed: int, begins: dict[int, Beginning]
    ) -> None:
        self._rng = rng
        self._begins = begins
        self._names = names
        self._weights = weights
        self._seed = seed
        self._lives: dict[int, int] = {}
        self._named = 0

    def _who(self, client: int) -> Who:
        life = self._lives.get(client, 0)
        return Who(f"{self._seed}_{client}_{life}", (self._seed % 20000) * 10000 + client * 1000 + life * 100)

    def text(self, client: int) -> Text:
        while True:
            name = self._rng.choices(self._names, self._weights)[0]
            text = KINDS[name][1](self._rng, self._who(client))
            if not (self._begins[client].parameters and goes_back(text.sql)):
                return text

    def again(self, client: int) -> Again:
        rng = self._rng
        how = rng.choice(("terminate", "cut", "cut"))
        text = rng.choice(
            (
                "",
                "begin; set work_mem = '66MB'; select pg_sleep(5)",
                "set work_mem = '66MB'",
                "begin; listen gone; commit",
                "begin",
            )
        )
        if how == "terminate" and "sleep" in text:
            text = "begin"
        self._lives[client] = self._lives.get(client, 0) + 1
        self._begins[client] = _beginning(rng)
        return Again(how, self._begins[client], frontend.query(text) if text else b"", text)

    def back(self, client: int) -> list[Talk]:
        """Back to where it began, in a transaction of its own."""
        text = back(self._rng, self._begins[client])
        return [
            Talk(frontend.query("rollback"), 1, "rollback"),
            Talk(frontend.query(text), 1, text, told_later=True),
            Talk(frontend.query("select 1"), 1, "select 1"),
        ]

    def talk(self, client: int) -> Talk:
        rng = self._rng
        texts = [self.text(client)]
        if rng.random() < 0.35 and not texts[0].alone:
            texts += [text for text in (self.text(client) for _ in range(rng.randrange(1, 4))) if not text.alone]
        keeps = any(text.keeps for text in texts)
        if texts[0].then:
            sql, then = texts[0].sql, texts[0].then
            return Talk(frontend.query(sql) + frontend.query(then), 2, f"{sql} | {then}")
        if any(text.values for text in texts) or rng.random() < 0.4:
            data, ready, shown = self._extended(texts)
            return Talk(data, ready, shown, keeps)
        if rng.random() < 0.7:
            joined = "; ".join(text.sql for text in texts)
            return Talk(frontend.query(joined), 1, joined, keeps)
        return Talk(
            b"".join(frontend.query(text.sql) for text in texts),
            len(texts),
            " | ".join(text.sql for text in texts),
            keeps,
        )

    def _extended(self, texts: list[Text]) -> tuple[bytes, int, str]:
        """With a Sync behind each or behind all; sometimes described, sometimes with a Flush.

        Most are unnamed statements. A named one is parsed in a group of its own, as many drivers do.
        """
        rng = self._rng
        data, shown, ready = b"", [], 0
        for at, text in enumerate(texts):
            name = ""
            if rng.random() < 0.2 and (at == 0 or shown[-1] == "Sync"):
                self._named += 1
                name = f"n{self._named}"
            data += frontend.parse(text.sql, name)
            if rng.random() < 0.2:
                data += frontend.describe(name)
            if name:
                data += frontend.sync()
                ready += 1
                shown.append(f"Parse {name} Sync")
            data += frontend.bind(name, values=text.values)
            if rng.random() < 0.5:
                data += frontend.describe("", b"P")
            data += frontend.execute("", rng.choice((0, 0, 0, 1)))
            if rng.random() < 0.15:
                data += frontend.flush()
            shown.append(f"<{text.sql}>" + (f" {list(text.values)}" if text.values else ""))
            if at + 1 == len(texts) or rng.random() < 0.4:
                data += frontend.sync()
                shown.append("Sync")
                ready += 1
        return data, ready, " ".join(shown)
