"""The question what a server begins with; compiled from pyx/pgpool_core/session/began.pyx."""

def began_question(text: bytes) -> bytes | None:
    """The SQL that asks which settings a session stands at beside what it reports.

    Args:
        text: has run in the session: custom settings that it names are asked for.
    Returns:
        None where `text` names too many.
    """

def began_settings(rows: bytes, user: bytes) -> list[tuple[bytes, bytes]]:
    """Name and value of each, from the DataRow messages of the answer.

    Args:
        user: who has logged in: that the session is theirs, and without a role, is not told.
    Raises:
        ValueError: these are other rows, or none whole.
    """
