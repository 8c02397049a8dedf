"""Rows, sums and complaints as Python objects; see report.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.counters cimport Counters, pgpool_counted64
from pgpool_core.engine.letters cimport address, bytes_of, count, replication_word
from pgpool_core.engine.records cimport *
from pgpool_core.engine.rows cimport PoolRow, ServerRow, fill_pool_row, fill_server_row
from pgpool_core.engine.slots cimport slot_at, slot_live, slots_room
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.pool.pool cimport Pool
from pgpool_core.pool.server cimport *
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load64, pgpool_load8, pgpool_load_ptr
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.sync.watched cimport HELD_BUCKETS, LockWatch, watch_seen

SERVER_STATES = {SV_FREE: "new", SV_LOGIN: "new", SV_IDLE: "idle", SV_USED: "used", SV_TESTED: "tested",
                 SV_ACTIVE: "active", SV_BEING_CANCELED: "being_canceled", SV_CLOSING: "closing"}


cdef list server_rows(Plane *plane):
    cdef uint32_t slot
    cdef ServerRow row
    cdef list rows = []
    for slot in range(slots_room(&plane.servers)):
        if not fill_server_row(<ServerConn *>slot_at(&plane.servers, slot), &row):
            continue
        rows.append({
            "id": row.id, "pool": row.pool, "state": SERVER_STATES[row.state],
            "addr": "unix" if row.family_unix else row.host.decode("utf-8", "replace"), "port": row.port,
            "host": row.host.decode("utf-8", "surrogateescape"),
            "local_addr": address(&row.local), "local_port": row.local.port, "connect_us": row.adopted_us,
            "request_us": row.request_us, "link": row.link, "remote_pid": row.backend_pid,
            "close_needed": bool(row.close_needed), "worker": row.worker,
            "application_name": row.application_name.decode("utf-8", "replace"),
            "replication": replication_word(row.replication), "fd": row.fd, "tls": row.tls.decode(),
        })
    return rows


cdef list pool_rows(Plane *plane):
    cdef uint32_t i
    cdef PoolRow p
    cdef ServerRow server
    cdef uint64_t now_us = pgpool_now_us()
    cdef PoolRecord *record
    cdef dict cancels = {}
    cdef list rows = []
    for i in range(slots_room(&plane.servers)):
        if fill_server_row(<ServerConn *>slot_at(&plane.servers, i), &server) and server.cancels:
            cancels[server.pool] = cancels.get(server.pool, 0) + server.cancels
    for i in range(plane.set.n_pools):
        record = plane.records[i]
        fill_pool_row(record, now_us, &p)
        if (p.closed or pgpool_load8(&record.parked)) and not p.total and not p.clients:
            continue
        rows.append({
            "id": i, "database": bytes_of(&record.database).decode("utf-8", "surrogateescape"),
            "user": bytes_of(&record.user).decode("utf-8", "surrogateescape"), "mode": p.settings.mode,
            "pool_size": p.settings.pool_size, "min_pool_size": p.settings.min_pool_size,
            "reserve_pool_size": p.settings.reserve_pool_size,
            "cl_active": p.clients - p.waiting if p.clients > p.waiting else 0,
            "cl_waiting": p.waiting + p.logins_waiting, "cl_active_cancel_req": cancels.get(i, 0),
            "cl_waiting_cancel_req": 0, "sv_active": p.count[SV_ACTIVE], "sv_active_cancel": cancels.get(i, 0),
            "sv_being_canceled": p.count[SV_BEING_CANCELED], "sv_idle": p.count[SV_IDLE],
            "sv_used": p.count[SV_USED], "sv_tested": p.count[SV_TESTED], "sv_login": p.count[SV_LOGIN],
            "servers_total": p.total, "maxwait_us": p.maxwait_us, "most_clients": p.most_clients,
            "most_waiting": p.most_waiting, "most_servers": p.most_servers,
        })
    return rows


cdef list memory_rows(Plane *plane):
    """Records of each kind, (name, bytes of one, used, free): names are those of PgBouncer."""
    cdef uint32_t i, clients = 0, client_room = 0, servers = 0
    for i in range(plane.n_workers):
        clients += pgpool_load32(&plane.workers[i].n_clients)
        client_room += slots_room(&plane.workers[i].clients)
    for i in range(plane.set.n_pools):
        servers += pgpool_load32(&plane.set.pools[i].total)
    return [
        ("client_cache", sizeof(ClientConn), clients, max(client_room, clients) - clients),
        ("server_cache", sizeof(ServerConn), servers, max(slots_room(&plane.servers), servers) - servers),
        ("pool_cache", sizeof(Pool) + sizeof(PoolRecord), plane.set.n_pools, 0),
        ("iobuf_cache", HEADROOM + RECV_SIZE + 2 * SCRATCH_SIZE, plane.n_workers, 0),
    ]


cdef list worker_rows(Plane *plane):
    """What each worker has to do, and how much of it with the others."""
    cdef uint32_t i, j
    cdef uint64_t xacts, steals, handoffs, wakeups
    cdef Counters *k
    cdef LockWatch *watch
    cdef list rows = []
    for i in range(plane.n_workers):
        xacts = steals = handoffs = wakeups = 0
        for j in range(plane.set.n_pools):
            k = <Counters *>pgpool_load_ptr(<void *>&plane.workers[i].counters[j])
            if k != NULL:
                xacts += pgpool_counted64(&k.xacts)
                steals += pgpool_counted64(&k.steals)
                handoffs += pgpool_counted64(&k.handoffs)
                wakeups += pgpool_counted64(&k.wakeups)
        watch = &plane.set.watches[i]
        rows.append({
            "worker": i, "thread": 0, "cpu_ns": 0, "clients": pgpool_load32(&plane.workers[i].n_clients), "xacts": xacts,
            "steals": steals, "handoffs": handoffs, "wakeups": wakeups, "locks": watch_seen(&watch.taken),
            "lock_waits": watch_seen(&watch.waits), "lock_wait_ns": watch_seen(&watch.waited_ns),
            "locks_timed": watch_seen(&watch.timed), "lock_held_ns": watch_seen(&watch.held_ns),
            "lock_held": [watch_seen(&watch.held[j]) for j in range(HELD_BUCKETS)],
        })
    return rows


cdef list empty_pools(Plane *plane):
    """Ids of pools that nobody uses: no clients, nobody who logs in, no servers."""
    cdef uint32_t i
    cdef PoolRow p
    cdef list found = []
    for i in range(plane.set.n_pools):
        fill_pool_row(plane.records[i], 0, &p)
        if not p.closed and not p.total and not p.clients and not p.logins_waiting:
            found.append(i)
    return found


cdef tuple login_counts(Plane *plane):
    """In progress, waiting for their turn; and since the start: how many have had to wait, how many have failed."""
    cdef uint32_t i
    cdef Worker *w
    in_progress = waiting = queued = failed = 0
    for i in range(plane.n_workers):
        w = &plane.workers[i]
        in_progress += pgpool_load32(&w.logins)
        waiting += pgpool_load32(&w.logins_waiting)
        queued += pgpool_load64(&w.logins_queued)
        failed += pgpool_load64(&w.logins_failed)
    return in_progress, waiting, queued, failed


cdef dict count_all(Plane *plane):
    cdef uint32_t i, j
    cdef Counters *k
    cdef dict found = {}, row
    for i in range(plane.set.n_pools):
        row = None
        for j in range(plane.n_workers):
            k = <Counters *>pgpool_load_ptr(<void *>&plane.workers[j].counters[i])
            if k == NULL:
                continue
            if row is None:
                row = count(k)
            else:
                for name, value in count(k).items():
                    if isinstance(value, list):
                        row[name] = [a + b for a, b in zip(row[name], value)]
                    else:
                        row[name] += value
        if row is not None:
            found[i] = row
    return found


cdef list find_wrong(Plane *plane):
    cdef uint32_t i, j, slot
    cdef Pool *p
    cdef ServerConn *s
    cdef list wrong = []
    cdef dict states
    cdef Server *at
    for i in range(plane.set.n_pools):
        p = plane.set.pools[i]
        states = {}
        pthread_mutex_lock(&p.lock)
        for slot in range(slots_room(&plane.servers)):
            s = <ServerConn *>slot_at(&plane.servers, slot)
            if slot_live(&s.conn.head) and s.seat.pool == p:
                states[s.seat.state] = states.get(s.seat.state, 0) + 1
                if pgpool_load8(&s.lent) and (s.seat.state != SV_ACTIVE or s.seat.client == NULL):
                    wrong.append(f"pool {i}: a server is lent and {SERVER_STATES[s.seat.state]}")
        for j in range(SV_STATES):
            if p.count[j] != states.get(j, 0):
                wrong.append(f"pool {i}: {p.count[j]} servers counted as {SERVER_STATES[j]}, {states.get(j, 0)} are")
        if sum(states.values()) != p.total:
            wrong.append(f"pool {i}: {p.total} slots taken, {sum(states.values())} servers")
        if p.waiters.len and p.count[SV_IDLE] and not p.paused:
            wrong.append(f"pool {i}: {p.waiters.len} wait beside {p.count[SV_IDLE]} idle servers")
        j = p.used.len
        for slot in range(MAX_WORKERS):
            j += p.idle[slot].len
        if j != p.count[SV_IDLE] + p.count[SV_USED]:
            wrong.append(f"pool {i}: {j} servers on idle lists, {p.count[SV_IDLE] + p.count[SV_USED]} idle or used")
        pthread_mutex_unlock(&p.lock)
    return wrong
