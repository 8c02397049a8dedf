"""TLS for Python: making contexts, and sessions of bytes. See face.pyi."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen

from pgpool_core.tls.context cimport *
from pgpool_core.tls.openssl cimport (OPENSSL_cleanse, SSL_get1_peer_certificate, SSL_get_verify_result, SSL_session_reused,
                                      X509_free, X509_verify_cert_error_string)
from pgpool_core.tls.peer cimport NAMES_MAX, binding_of, peer_names
from pgpool_core.tls.session cimport *
from pgpool_core.wire.span cimport Span

from pgpool_core.errors import TlsError

ROLES = {"server": TLS_SERVER, "client": TLS_CLIENT}
PEERS = {"ignored": PEER_IGNORED, "asked": PEER_ASKED, "required": PEER_REQUIRED}
PROTOCOLS = {"tlsv1.0": TLS_1_0, "tlsv1.1": TLS_1_1, "tlsv1.2": TLS_1_2, "tlsv1.3": TLS_1_3}
DHPARAMS = {"none": DH_NONE, "auto": DH_AUTO, "legacy": DH_LEGACY}
PARTS = {PART_CERTIFICATE: "certificate", PART_KEY: "key", PART_CA: "ca", PART_CRL: "crl", PART_PROTOCOLS: "protocols",
         PART_CIPHERS: "ciphers", PART_SUITES: "suites", PART_GROUPS: "groups", PART_MEMORY: "memory", PART_PAIR: "pair"}

cdef enum:
    CHUNK = 65536


cdef Span span_of(bytes data):
    cdef Span s
    s.at, s.len = <const uint8_t *><const char *>data, <uint32_t>len(data)
    return s


cdef class Context:
    """See face.pyi."""

    def __cinit__(self, *, role, bytes certificate=b"", bytes key=b"", bytes ca=b"", bytes crl=b"", bint system_ca=False,
                  peer="ignored", protocols=("tlsv1.2", "tlsv1.3"), str ciphers="", str suites="", str groups="",
                  dhparams="auto", bint ecdhe=True):
        cdef TlsTerms terms
        cdef uint8_t part = 0
        cdef const char *why = NULL
        cdef bytes cipher_text = ciphers.encode(), suite_text = suites.encode(), group_text = groups.encode()
        memset(&terms, 0, sizeof(TlsTerms))
        terms.role = ROLES[role]
        terms.peer = PEERS[peer]
        terms.dh = DHPARAMS[dhparams]
        terms.system_ca = system_ca
        terms.no_ecdhe = not ecdhe
        for protocol in protocols:
            terms.protocols |= PROTOCOLS[protocol]
        terms.certificate, terms.key, terms.ca, terms.crl = span_of(certificate), span_of(key), span_of(ca), span_of(crl)
        if ciphers:
            terms.ciphers = cipher_text
        if suites:
            terms.suites = suite_text
        if groups:
            terms.groups = group_text
        self.context = context_new(&terms, &part, &why)
        if self.context == NULL:
            raise TlsError(why.decode("utf-8", "replace"), part=PARTS[part])

    def __dealloc__(self):
        context_unref(self.context)

    @property
    def binding(self):
        return self.context.binding[:self.context.binding_len]


cdef class Session:
    """See face.pyi."""

    def __cinit__(self, Context context=None, *, str host="", str name=""):
        cdef bytes host_text = host.encode("idna" if not host.isascii() else "ascii")
        cdef bytes name_text = name.encode("idna" if not name.isascii() else "ascii")
        if context is None:                       # session_taken
            return
        self.context = context
        self.session = tls_new(context.context, <const char *>host_text if host else NULL,
                               <const char *>name_text if name else NULL)
        if self.session == NULL:
            raise TlsError("no host has such a name", part="host")

    def __dealloc__(self):
        tls_free(self.session)

    def __init__(self, Context context not None, *, str host="", str name=""):
        pass

    cdef TlsSession *own(self) except NULL:
        if self.session == NULL:
            raise RuntimeError("this session has been given away")
        return self.session

    cdef TlsSession *give(self) except NULL:
        cdef TlsSession *session = self.own()
        self.session = NULL
        return session

    def begin(self):
        self.verdict(tls_begin(self.own()))

    cdef int verdict(self, int status) except -1:
        if status == TLS_FAILED:
            raise TlsError(self.session.why.decode("utf-8", "replace"), part="certificate" if self.session.refused else "peer")
        if status == TLS_NOT_YET:
            raise RuntimeError("the handshake is not over")
        return 0

    def receive(self, bytes data not None):
        cdef TlsSession *t = self.own()
        cdef const uint8_t *at = <const uint8_t *><const char *>data
        cdef size_t left = len(data), n, got = 0
        cdef size_t cap = (left if left < CHUNK else CHUNK) + TLS_SLACK
        cdef int status = TLS_OK
        cdef uint8_t *into
        cdef list parts = []
        into = <uint8_t *>malloc(cap)
        if into == NULL:
            raise MemoryError
        while True:
            n = left if left < CHUNK else CHUNK
            with nogil:
                status = tls_receive(t, at, n, into, cap, &got)
            if got:
                parts.append(into[:got])
                OPENSSL_cleanse(into, got)
            at += n
            left -= n
            if status != TLS_OK or left == 0:
                break
        free(into)
        if not parts:
            self.verdict(status)
        return b"".join(parts)

    def send(self, bytes data not None):
        cdef TlsSession *t = self.own()
        cdef size_t length = 0, cap = tls_room(len(data)), n = len(data)
        cdef const uint8_t *at = <const uint8_t *><const char *>data
        cdef int status
        cdef bytes before = self.take()
        cdef uint8_t *out = <uint8_t *>malloc(cap)
        if out == NULL:
            raise MemoryError
        with nogil:
            status = tls_send(t, at, n, out, cap, &length)
        encrypted = out[:length]
        free(out)
        self.verdict(status)
        return before + encrypted + self.take()

    def take(self):
        cdef TlsSession *t = self.own()
        cdef bytes data = t.left[:t.left_len] if t.left_len else b""
        tls_taken(t)
        return data

    def close(self):
        tls_close(self.own())

    @property
    def established(self):
        return bool(self.own().established)

    @property
    def closed(self):
        return bool(self.own().closed)

    @property
    def alpn(self):
        return bool(self.own().alpn)

    @property
    def resumed(self):
        return bool(SSL_session_reused(self.own().ssl))

    @property
    def info(self):
        cdef char[TLS_INFO_MAX] text
        tls_info(self.own(), text)
        return text.decode()

    @property
    def peer_names(self):
        cdef uint8_t[NAMES_MAX] names
        cdef size_t n = peer_names(self.own().ssl, names, NAMES_MAX), at = 0
        cdef list found = []
        while at < n:
            found.append((<const char *>&names[at]).decode("utf-8", "surrogateescape"))
            at += strlen(<const char *>&names[at]) + 1
        return tuple(found)

    @property
    def peer_problem(self):
        cdef long code = SSL_get_verify_result(self.own().ssl)
        return X509_verify_cert_error_string(code).decode() if code else ""

    @property
    def peer_binding(self):
        cdef uint8_t[BINDING_MAX] out
        cdef size_t n = 0
        certificate = SSL_get1_peer_certificate(self.own().ssl)
        if certificate != NULL:
            n = binding_of(certificate, out)
            X509_free(certificate)
        return out[:n]


cdef object session_taken(TlsSession **at):
    cdef Session session
    if at[0] == NULL:
        return None
    session = Session.__new__(Session)
    session.session, at[0] = at[0], NULL
    return session
