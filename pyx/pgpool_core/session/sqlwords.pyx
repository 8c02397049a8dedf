"""The table of words; see sqlwords.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

cdef enum:
    MAX_WORDS = 320

cdef Word words[MAX_WORDS]
cdef uint16_t heads[WORD_BUCKETS]
cdef Word *WORDS = words
cdef const uint16_t *WORD_HEADS = heads

# Words that begin statements: verb, what they may do, what they are besides.
VERBS = {
    "select": (VERB_SELECT, 0, WORD_QUIET), "values": (VERB_SELECT, 0, WORD_QUIET), "table": (VERB_SELECT, 0, WORD_QUIET),
    "insert": (VERB_INSERT, 0, WORD_INSERT), "update": (VERB_UPDATE, 0, WORD_QUIET),
    "delete": (VERB_DELETE, 0, WORD_QUIET), "merge": (VERB_MERGE, 0, WORD_INSERT), "with": (VERB_WITH, 0, WORD_WITH),
    "set": (VERB_SET, SQL_SETS, WORD_SET), "reset": (VERB_RESET, SQL_SETS, WORD_QUIET),
    "show": (VERB_SHOW, 0, WORD_QUIET), "begin": (VERB_BEGIN, 0, WORD_QUIET), "start": (VERB_BEGIN, 0, WORD_QUIET),
    "commit": (VERB_COMMIT, 0, WORD_QUIET), "end": (VERB_COMMIT, 0, WORD_QUIET),
    "rollback": (VERB_ROLLBACK, 0, WORD_QUIET), "abort": (VERB_ROLLBACK, 0, WORD_QUIET),
    "savepoint": (VERB_SAVEPOINT, 0, WORD_QUIET), "release": (VERB_RELEASE, 0, WORD_QUIET),
    "prepare": (VERB_PREPARE, SQL_PREPARES, WORD_PREPARE), "execute": (VERB_EXECUTE, SQL_EXECUTES, WORD_QUIET),
    "deallocate": (VERB_DEALLOCATE, SQL_DEALLOCATES, WORD_QUIET), "discard": (VERB_DISCARD, SQL_DISCARDS, WORD_QUIET),
    "listen": (VERB_LISTEN, SQL_LISTENS, WORD_QUIET), "unlisten": (VERB_UNLISTEN, SQL_UNLISTENS, WORD_QUIET),
    "notify": (VERB_NOTIFY, SQL_NOTIFIES, WORD_NOTIFY), "declare": (VERB_DECLARE, 0, WORD_QUIET),
    "fetch": (VERB_FETCH, 0, WORD_QUIET), "move": (VERB_FETCH, 0, WORD_QUIET), "close": (VERB_CLOSE, SQL_CLOSES, WORD_QUIET),
    "load": (VERB_LOAD, SQL_LOADS, WORD_QUIET), "do": (VERB_DO, SQL_OPAQUE, WORD_DO),
    "call": (VERB_CALL, SQL_OPAQUE, WORD_QUIET), "copy": (VERB_COPY, 0, WORD_QUIET),
    "explain": (VERB_EXPLAIN, 0, WORD_QUIET), "create": (VERB_CREATE, 0, WORD_CREATE),
    "alter": (VERB_ALTER, 0, WORD_CREATE), "drop": (VERB_DROP, 0, WORD_CREATE),
}

# Words that matter inside statements.
INNER = {
    "or": WORD_QUIET, "replace": WORD_REPLACE, "global": WORD_REPLACE, "local": WORD_REPLACE, "into": WORD_INTO,
    "temp": WORD_TEMP, "temporary": WORD_TEMP, "hold": WORD_HOLD, "also": WORD_RULE_DO, "instead": WORD_RULE_DO,
    "database": WORD_DATABASE, "function": WORD_FUNCTION, "procedure": WORD_FUNCTION, "routine": WORD_FUNCTION,
    "aggregate": WORD_FUNCTION, "language": WORD_FUNCTION, "trigger": WORD_FUNCTION, "rule": WORD_FUNCTION,
    "extension": WORD_FUNCTION,
}

# Functions with an effect, found wherever their name stands.
FUNCTIONS = {
    "set_config": SQL_SETS, "setseed": SQL_SETS, "set_limit": SQL_SETS, "pg_settings": SEEN_SETTINGS,
    "pg_notify": SQL_NOTIFIES,
    "pg_advisory_lock": SQL_ADVISORY, "pg_advisory_lock_shared": SQL_ADVISORY, "pg_try_advisory_lock": SQL_ADVISORY,
    "pg_try_advisory_lock_shared": SQL_ADVISORY, "pg_advisory_unlock": SQL_UNLOCKS,
    "pg_advisory_unlock_shared": SQL_UNLOCKS, "pg_advisory_unlock_all": SQL_UNLOCKS,
    "nextval": SQL_SEQUENCES, "setval": SQL_SEQUENCES, "currval": SQL_SEQUENCES, "lastval": SQL_SEQUENCES,
    "query_to_xml": SQL_OPAQUE, "query_to_xmlschema": SQL_OPAQUE, "query_to_xml_and_xmlschema": SQL_OPAQUE,
    "table_to_xml": SQL_OPAQUE, "table_to_xml_and_xmlschema": SQL_OPAQUE, "schema_to_xml": SQL_OPAQUE,
    "schema_to_xml_and_xmlschema": SQL_OPAQUE, "database_to_xml": SQL_OPAQUE, "database_to_xml_and_xmlschema": SQL_OPAQUE,
    "ts_stat": SQL_OPAQUE, "ts_rewrite": SQL_OPAQUE, "dblink_connect": SQL_OPAQUE, "dblink_connect_u": SQL_OPAQUE,
    "pg_input_is_valid": SQL_OPAQUE, "pg_input_error_info": SQL_OPAQUE,     # the check of a domain that a string names
    # What they begin ends with the session only, and no catalogue that is asked shows it.
    "pg_backup_start": SQL_LOADS | SQL_OPAQUE, "pg_start_backup": SQL_LOADS | SQL_OPAQUE,
    "pg_replication_origin_session_setup": SQL_LOADS | SQL_OPAQUE,
    "pg_create_logical_replication_slot": SQL_LOADS | SQL_OPAQUE,
    "pg_create_physical_replication_slot": SQL_LOADS | SQL_OPAQUE,
    "pg_copy_logical_replication_slot": SQL_LOADS | SQL_OPAQUE,
    "pg_copy_physical_replication_slot": SQL_LOADS | SQL_OPAQUE,
}

# What stands in front of brackets in everybody's queries: keywords, types, and PostgreSQL's own functions that leave no trace.
QUIET = """
    all and any array as between bigint bit by case cast char character check coalesce collate cross cube date decimal
    distinct else except exists extract filter float foreign from full generated grouping greatest group having if ilike in
    index inner int integer intersect interval is join key lateral left least like limit materialized not null
    nullif numeric offset on only order over overlay partition position primary range recursive references returning
    right rollup row rows sets similar some substring text then time timestamp to trim unique using varchar varying when
    where window within abs array_agg array_length array_position array_to_string avg bit_length btrim cardinality ceil
    char_length concat concat_ws count current_schema current_setting date_part date_trunc dense_rank encode
    decode first_value floor format format_type gen_random_uuid generate_series generate_subscripts has_schema_privilege
    has_table_privilege initcap json_agg json_build_array json_build_object json_object_agg jsonb_agg
    jsonb_array_elements jsonb_array_elements_text jsonb_build_array jsonb_build_object jsonb_object_agg
    jsonb_set lag last_value lead length lower lpad ltrim make_date make_interval max md5 min mod now ntile
    pg_backend_pid pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_userbyid pg_relation_size pg_sleep
    pg_table_is_visible pg_type_is_visible pg_total_relation_size percentile_cont power random rank regexp_match regexp_replace
    round row_number row_to_json rpad rtrim sign split_part sqrt starts_with strpos string_agg string_to_array sum to_char
    to_date to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector translate trunc unnest upper version
    bool_and bool_or clock_timestamp statement_timestamp txid_current age
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
""".split()

# With these a text changes rows.
WRITES = {"insert", "update", "delete", "merge", "copy", "truncate"}

cdef uint32_t rows = 1


cdef void add(str text, uint8_t id, uint8_t verb, uint32_t lead, uint32_t any, uint32_t quoted, uint32_t body):
    global rows
    cdef bytes raw = text.encode()
    cdef uint32_t bucket = word_hash(<const uint8_t *>raw, len(raw))
    cdef Word *row = &words[rows]
    if rows == MAX_WORDS or len(raw) > WORD_MAX:
        raise AssertionError(f"no room for the word {text}")
    row.lead, row.any, row.quoted, row.body = lead, any, quoted, body | lead | any | quoted
    row.id, row.verb, row.len = id, verb, <uint8_t>len(raw)
    row.special = id > WORD_QUIET or (any | quoted) != 0
    for i, byte in enumerate(raw):
        row.text[i] = <uint8_t>(byte | 0x20)
    row.next = heads[bucket]
    heads[bucket] = <uint16_t>rows
    rows += 1


memset(words, 0, sizeof(words))
memset(heads, 0, sizeof(heads))
words[0].verb = VERB_OTHER
for word in QUIET:
    add(word, WORD_QUIET, VERB_OTHER, 0, 0, 0, 0)
for word, flags in FUNCTIONS.items():
    add(word, WORD_SET_CONFIG if word == "set_config" else WORD_QUIET, VERB_OTHER, 0, 0, flags, 0)
add("pg_catalog", WORD_CATALOG, VERB_OTHER, 0, 0, 0, 0)
for word in ("truncate", "refresh"):
    add(word, WORD_QUIET, VERB_OTHER, 0, SEEN_WRITES, 0, 0)
for word, kind in INNER.items():
    add(word, kind, VERB_OTHER, 0, 0, 0, {WORD_TEMP: SQL_TEMPS, WORD_HOLD: SQL_HOLDS}.get(kind, 0))
for word, (verb, lead, kind) in VERBS.items():
    if word == "execute":
        add(word, kind, verb, 0, lead, 0, 0)
    elif word in WRITES:
        add(word, kind, verb, lead, SEEN_WRITES | (SEEN_UPDATE if word == "update" else 0), 0, 0)
    else:
        add(word, kind, verb, lead, 0, 0, 0)
