"""Secrets on their way into the table of credentials; see secrets.pxd."""

from libc.string cimport memset

from pgpool_core.auth.credentials cimport (CRED_ASKS_KEY, CRED_NOBODY, CREDENTIALS_OK, Credential, credential_md5, credential_plain,
                                           credential_scram, credential_wipe, credentials_forget, credentials_mock, credentials_put)
from pgpool_core.engine.records cimport Plane
from pgpool_core.engine.texts cimport span


cdef bytes name_in(bytes user, bytes database):
    """What a credential is called in the table; `database` None: it holds for all."""
    return user if database is None else database + b"\0" + user


cdef int secret_set(Plane *plane, bytes user, bytes database, bytes plain, bytes md5, scram, bint asks_key) except -1:
    """Raises ValueError for a secret that is none. All three None: the user exists, and no password matches."""
    cdef Credential c
    cdef bytes salt, stored, server
    cdef bytes name = name_in(user, database)
    memset(&c, 0, sizeof(Credential))
    try:
        if plain is not None and credential_plain(&c, span(user), span(plain)) != CREDENTIALS_OK:
            raise ValueError("unusable password")
        if md5 is not None and credential_md5(&c, span(md5)) != CREDENTIALS_OK:
            raise ValueError("unusable md5 secret")
        if scram is not None:
            iterations, salt, stored, server = scram
            if credential_scram(&c, iterations, span(salt), span(stored), span(server)) != CREDENTIALS_OK:
                raise ValueError("unusable SCRAM secret")
        if asks_key:
            c.kinds |= CRED_ASKS_KEY
        if credentials_put(plane.credentials, span(name), &c) != CREDENTIALS_OK:
            raise MemoryError
    finally:
        credential_wipe(&c)
    return 0


cdef int secret_nobody(Plane *plane, bytes user, bytes database) except -1:
    cdef Credential c
    cdef bytes name = name_in(user, database)
    if credentials_mock(plane.credentials, span(user), &c) != CREDENTIALS_OK:
        return 0                                  # without it, the next login asks again
    c.kinds = CRED_NOBODY
    if credentials_put(plane.credentials, span(name), &c) != CREDENTIALS_OK:
        raise MemoryError
    return 0


cdef int secret_forget(Plane *plane, bytes user, bytes database) except -1:
    cdef bytes name = name_in(user, database)
    credentials_forget(plane.credentials, span(name))
    return 0
