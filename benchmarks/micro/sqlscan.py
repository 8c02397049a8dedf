"""`python -m benchmarks.micro.sqlscan`: what a look at a text of SQL costs. Needs the probes (`make test` builds them)."""

from __future__ import annotations

import argparse

from pgpool_core_probes import sqlscan_probe

GOAL_NS = 60.0  # for the look-up of pgbench -S

TEXTS: dict[str, bytes] = {
    "begin": b"BEGIN",
    "select 1": b"SELECT 1",
    "pgbench look-up": b"SELECT abalance FROM pgbench_accounts WHERE aid = 123",
    "pgbench update": b"UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 4711;",
    "pgbench insert": b"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
    "set": b"SET application_name = 'checkout'",
    "join": b"SELECT c.id, c.name, sum(o.total) FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = $1 "
    b"AND o.created_at > now() - interval '1 day' GROUP BY c.id, c.name ORDER BY 3 DESC LIMIT 20",
    "django": b'SELECT "shop_order"."id", "shop_order"."customer_id", "shop_order"."created_at", "shop_order"."total" FROM '
    b'"shop_order" INNER JOIN "shop_customer" ON ("shop_order"."customer_id" = "shop_customer"."id") WHERE '
    b'"shop_customer"."email" = $1 LIMIT 21',
    "comment": b"/*controller='orders',action='index',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/ "
    b"SELECT 1",
    "1000 rows": b"INSERT INTO t (a, b) VALUES " + b", ".join([b"(12345, 'some text in a row')"] * 1000),
    "1 MB literal": b"INSERT INTO t VALUES ('\\x" + b"00" * 500_000 + b"')",
}


def cost_ns(text: bytes, rounds: int) -> float:
    """Nanoseconds for one look: the best of `rounds` rounds of some 10 ms."""
    times = max(1, 10_000_000 // (len(text) + 20))
    best_ns: int = min(sqlscan_probe.measure(text, times) for _ in range(rounds))
    return best_ns / times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro.sqlscan", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| text | bytes | ns | ns per byte |\n|---|---:|---:|---:|")
    for name, text in TEXTS.items():
        ns = cost_ns(text, rounds)
        goal = f" (goal: below {GOAL_NS:.0f})" if name == "pgbench look-up" else ""
        print(f"| {name}{goal} | {len(text)} | {ns:.1f} | {ns / len(text):.2f} |")


if __name__ == "__main__":
    main()
