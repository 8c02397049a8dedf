"""Giving clients and servers that are at rest to another process (-R); where they come from, see arrival.pxd.

A client between transactions goes alone, also one that has been in the queue for long, with what it has sent; one that keeps its server (session mode,
pins) goes with it; an idle server goes alone. Those that are in the middle of something go when they are not any more.

What goes to PgBouncer is told in fewer words: clients that hold no server, have sent nothing and have no statements, and servers on
which there are none; of their settings only four may be other than at the start.
"""

from pgpool_core.engine.records cimport Worker


cdef enum:
    GIVE_NOTHING = 0              # `giving` of the plane
    GIVE_ALL = 1                  # to another process of ours
    GIVE_PLAIN = 2                # while it stands still (SUSPEND), what can be told in a row of SHOW FDS


cdef void depart(Worker *w) noexcept nogil
