"""The table of routes; see routes.pxd."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_apart, hash_on

cdef enum:
    BUCKETS = 4096
    MAX_ROUTES = 1 << 18          # beyond that the table starts anew: hostile user names must not fill memory


cdef Routes *routes_new() noexcept nogil:
    """An empty table, owned by the caller; NULL when memory is short."""
    cdef Routes *routes = <Routes *>calloc(1, sizeof(Routes))
    if routes == NULL:
        return NULL
    routes.buckets = <Route **>calloc(BUCKETS, sizeof(Route *))
    if routes.buckets == NULL:
        free(routes)
        return NULL
    pthread_mutex_init(&routes.lock, NULL)
    return routes


cdef void clear(Routes *routes) noexcept nogil:
    cdef uint32_t i
    cdef Route *route
    for i in range(BUCKETS):
        while routes.buckets[i] != NULL:
            route = routes.buckets[i]
            routes.buckets[i] = route.next
            free(route)
    routes.count = 0


cdef void routes_drop(Routes *routes, const void *target) noexcept nogil:
    """Forget the routes to `target`."""
    cdef uint32_t i
    cdef Route **at
    cdef Route *route
    pthread_mutex_lock(&routes.lock)
    for i in range(BUCKETS):
        at = &routes.buckets[i]
        while at[0] != NULL:
            route = at[0]
            if route.target == target:
                at[0] = route.next
                free(route)
                routes.count -= 1
            else:
                at = &route.next
    pthread_mutex_unlock(&routes.lock)


cdef void routes_clear(Routes *routes) noexcept nogil:
    """Forget every route: logins ask control again."""
    pthread_mutex_lock(&routes.lock)
    clear(routes)
    pthread_mutex_unlock(&routes.lock)


cdef void routes_free(Routes *routes) noexcept nogil:
    """Free the table."""
    if routes == NULL:
        return
    clear(routes)
    pthread_mutex_destroy(&routes.lock)
    free(routes.buckets)
    free(routes)


cdef uint32_t bucket(Span database, Span user) noexcept nogil:
    return hash_on(hash_apart(hash_on(HASH_BEGIN, database)), user) % BUCKETS


cdef Route *find(Routes *routes, Span database, Span user) noexcept nogil:
    cdef Route *route = routes.buckets[bucket(database, user)]
    while route != NULL and not (
            route.database_len == database.len and route.user_len == user.len
            and memcmp(route.names, database.at, database.len) == 0
            and memcmp(route.names + database.len, user.at, user.len) == 0):
        route = route.next
    return route


cdef bint routes_put(Routes *routes, Span database, Span user, void *target) noexcept nogil:
    """Add or replace a route; False when memory is short."""
    cdef Route *route
    cdef uint32_t b
    pthread_mutex_lock(&routes.lock)
    route = find(routes, database, user)
    if route == NULL:
        if routes.count >= MAX_ROUTES:
            clear(routes)
        route = <Route *>malloc(sizeof(Route) + database.len + user.len)
        if route != NULL:
            b = bucket(database, user)
            route.database_len = database.len
            route.user_len = user.len
            memcpy(route.names, database.at, database.len)
            memcpy(route.names + database.len, user.at, user.len)
            route.next = routes.buckets[b]
            routes.buckets[b] = route
            routes.count += 1
    if route != NULL:
        route.target = target
    pthread_mutex_unlock(&routes.lock)
    return route != NULL


cdef void *routes_get(Routes *routes, Span database, Span user) noexcept nogil:
    """The target of (database, user); NULL when control has not said."""
    cdef Route *route
    cdef void *target = NULL
    pthread_mutex_lock(&routes.lock)
    route = find(routes, database, user)
    if route != NULL:
        target = route.target
    pthread_mutex_unlock(&routes.lock)
    return target
