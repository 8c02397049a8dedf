"""What a client may read through the pooler that PostgreSQL itself would not have said, and why: on purpose, all of them.

`docs/prepared-statements.md` ("What you may notice") tells users the same. Where the first difference of a sequence is one of these, what follows
is not compared, because it may differ in consequence; how many sequences end so is counted, so that the list hides nothing.
"""

from __future__ import annotations

import re

import attrs

__all__ = ["KNOWN", "Known", "known"]


@attrs.frozen
class Known:
    """One difference: what is said at either place instead of each other."""

    name: str
    why: str
    postgres: re.Pattern[str]
    pooler: re.Pattern[str]


KNOWN = (
    Known(
        "unnamed statement in a later transaction",
        "it does not follow its client from server to server, and is never another client's",
        postgres=re.compile(""),
        pooler=re.compile("E .*'C': '26000', 'M': 'unnamed prepared statement does not exist'"),
    ),
    Known(
        "description of a cursor's rows",
        "FETCH is described by the cursor that there was when the text was prepared on that server, perhaps none",
        postgres=re.compile("[Tn] "),
        pooler=re.compile("[Tn] "),
    ),
    Known(
        "failed transaction on a server without the statement",
        "its text cannot be parsed there any more: PostgreSQL refuses that before it looks at anything else",
        postgres=re.compile("[tE2] "),
        pooler=re.compile("E .*'C': '25P02'"),
    ),
    Known(
        "COMMIT or ROLLBACK under a name in use, in a failed transaction on a server without that statement",
        "for the same reason the name is free there",
        postgres=re.compile("E .*'C': '42P05'"),
        pooler=re.compile("1 "),
    ),
)


def known(right: str, was: str) -> Known | None:
    """The difference on the list that PostgreSQL's line and the pooler's show, if there is one."""
    return next((one for one in KNOWN if one.postgres.match(right) and one.pooler.match(was)), None)
