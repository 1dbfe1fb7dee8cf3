"""The words of SQL that a read may hold: functions, keywords, settings. Lists only, and no rule.

A function that is not listed may write, run or stop something, so a name that is missing here can only raise a class.
None of these takes SQL as a text to run (`query_to_xml`), reads a file of the server, or moves a sequence.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANY_SERVER = """
abs acos acosh asin asinh atan atan2 atanh avg bit_and bit_count bit_length bit_or bit_xor bool_and bool_or ceil
ceiling char_length character_length coalesce concat concat_ws convert corr cos cosh cot count covar_pop
covar_samp cume_dist current_date current_time current_timestamp current_user date decode degrees dense_rank
encode every exp first_value floor format greatest grouping group_concat ifnull iif instr isnull json_agg
json_array json_array_length json_arrayagg json_build_array json_build_object json_extract json_group_array
json_group_object json_length json_object json_objectagg json_quote json_type json_typeof json_valid json_value
json_keys json_contains json_unquote json_pretty jsonb_agg lag last_value lcase lead least left length
likelihood likely ln localtime localtimestamp locate log log10 log2 lower lpad ltrim max md5 mid min mod now
nth_value ntile nullif octet_length percent_rank percentile_cont percentile_disc pi position pow power quote
radians random rank regexp_count regexp_instr regexp_like regexp_replace regexp_substr repeat replace reverse
right round row_number rpad rtrim session_user sha1 sha256 sign sin sinh sqrt stddev stddev_pop stddev_samp
strftime string_agg strpos substr substring sum tan tanh time timediff to_char to_date to_number to_timestamp
total translate trim trunc truncate typeof ucase unicode unlikely upper user var_pop var_samp variance version
"""
_POSTGRES = """
age array_agg array_append array_cat array_dims array_length array_lower array_ndims array_position array_remove
array_replace array_to_json array_to_string array_upper ascii btrim cardinality cbrt chr clock_timestamp
col_description current_database current_query current_schema current_schemas current_setting date_bin date_part
date_trunc div extract format_type generate_series generate_subscripts has_any_column_privilege
has_column_privilege has_database_privilege has_function_privilege has_schema_privilege has_sequence_privilege
has_table_privilege has_tablespace_privilege host hostmask inet_client_addr inet_client_port inet_server_addr
inet_server_port initcap isfinite json_array_elements json_array_elements_text json_each json_each_text
json_extract_path json_extract_path_text json_object_keys json_object_agg json_populate_record json_to_record
json_to_recordset json_strip_nulls jsonb_array_elements jsonb_array_elements_text jsonb_array_length
jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_pretty jsonb_set jsonb_strip_nulls
jsonb_typeof justify_days justify_hours justify_interval make_date make_interval make_time make_timestamp
make_timestamptz masklen mode netmask network num_nonnulls num_nulls obj_description overlay parse_ident pg_age
pg_backend_pid pg_blocking_pids pg_client_encoding pg_column_size pg_conf_load_time pg_current_wal_insert_lsn
pg_current_wal_lsn pg_current_wal_flush_lsn pg_database_size pg_describe_object pg_encoding_to_char
pg_get_constraintdef pg_get_expr pg_get_functiondef pg_get_function_arguments pg_get_function_identity_arguments
pg_get_function_result pg_get_indexdef pg_get_keywords pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence
pg_get_statisticsobjdef pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_indexes_size
pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn pg_last_wal_replay_lsn
pg_last_xact_replay_timestamp pg_lock_status pg_my_temp_schema pg_partition_tree pg_postmaster_start_time
pg_relation_filenode pg_relation_filepath pg_relation_size pg_safe_snapshot_blocking_pids pg_show_all_settings
pg_size_bytes pg_size_pretty pg_sleep pg_stat_get_activity pg_table_is_visible pg_table_size
pg_tablespace_location pg_tablespace_size pg_timezone_names pg_total_relation_size pg_typeof pg_wal_lsn_diff
pg_walfile_name phraseto_tsquery plainto_tsquery quote_ident quote_literal quote_nullable regexp_match
regexp_matches regexp_split_to_array regexp_split_to_table row_to_json scale set_masklen shobj_description
split_part starts_with statement_timestamp string_to_array string_to_table timeofday to_hex to_json to_jsonb
to_regclass to_tsquery to_tsvector transaction_timestamp ts_headline ts_rank txid_current_if_assigned unnest
width_bucket bool int4 int8 float8 text
"""
_MYSQL = """
addtime adddate ascii bin cast char char concat conv convert_tz connection_id curdate curtime database date_add
date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear elt field find_in_set format_bytes
format_pico_time from_unixtime get_format hex hour if inet6_aton inet6_ntoa inet_aton inet_ntoa makedate
maketime microsecond minute month monthname oct ord period_add period_diff quarter rand schema sec_to_time
second sha2 sleep soundex space str_to_date strcmp subdate substring_index subtime system_user time_format
time_to_sec timestampadd timestampdiff to_days unhex unix_timestamp utc_date utc_time utc_timestamp uuid week
weekday weekofyear year yearweek any_value gtid_subset gtid_subtract timestamp json_search json_overlaps
json_merge_patch json_set
"""
_SQLITE = """
char changes date datetime glob hex ifnull json json_each json_tree json_patch json_remove json_set julianday
last_insert_rowid printf randomblob soundex sqlite_compileoption_get sqlite_source_id sqlite_version strftime
total_changes unhex unixepoch zeroblob max min pragma_table_info pragma_table_xinfo pragma_table_list
pragma_index_list pragma_index_info pragma_index_xinfo pragma_foreign_key_list pragma_database_list
pragma_compile_options pragma_function_list generate_series
"""

READING_FUNCTIONS = frozenset(name for text in (_ANY_SERVER, _POSTGRES, _MYSQL, _SQLITE) for name in text.split())
# Known to change something; a person reads a better reason than "not known".
WRITING_FUNCTIONS = _words("""
nextval setval set_config pg_stat_reset pg_stat_statements_reset pg_notify lo_create lo_creat lo_unlink
pg_advisory_lock pg_advisory_unlock pg_advisory_unlock_all pg_try_advisory_lock get_lock release_lock
txid_current pg_create_restore_point pg_drop_replication_slot pg_create_physical_replication_slot last_insert_id
""")
STOPPING_FUNCTIONS = _words("""
pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_promote pg_switch_wal
pg_wal_replay_pause pg_wal_replay_resume
""")

# Reserved on every server: what stands before a parenthesis here is never a function of a user.
RESERVED = _words("""
all and any array as between by case check constraint default distinct else except exists foreign from full
group having in inner intersect interval into is join lateral like limit natural not null offset on or order
outer primary references returning row select some table then union unique using values when where window with
""")
# Types that no server lets a function be called; after `::`, in a cast and in a table they take their size.
TYPES = _words("""
bit char character dec decimal float int integer national nchar numeric real smallint time timestamp varchar
""")
# Words inside a query that make it more than one.
WRITING_WORDS = _words("insert update delete merge into truncate drop alter create upsert replace grant")

WRITING_VERBS = _words("""
insert update delete merge replace drop truncate grant revoke comment vacuum analyze analyse reindex cluster
checkpoint optimize repair check checksum refresh lock unlock rename reassign flush purge reset change discard
attach detach notify listen unlisten set import
""")
STOPPING_VERBS = frozenset({"kill", "shutdown"})
SERVER_THREADS = frozenset({"slave", "slaves", "replica", "replicas", "group_replication"})
# What CREATE and ALTER may make without code of its own; a function, trigger or extension is not here.
PLAIN_OBJECTS = _words("""
table index view schema database user role sequence type domain tablespace policy group collation statistics
publication
""")
OBJECT_PREFIXES = _words("""
or replace temp temporary unlogged unique concurrently global local materialized fulltext spatial default ignore
""")
TRANSACTION_VERBS = _words("begin start stop commit end rollback abort savepoint release")
TRANSACTION_WORDS = _words("""
work transaction immediate exclusive deferred isolation level read write only repeatable committed uncommitted
serializable deferrable not to savepoint and chain no release with consistent snapshot
""")
EXPLAIN_WORDS = _words("""
analyze analyse 0 1 costs verbose buffers format settings wal summary timing generic_plan memory serialize on
off true false json text yaml xml traditional tree extended partitions query plan
""")
EXPLAINED = _words("select with values table insert update delete merge replace")
# Settings of a session that change neither what its names mean nor how its text is cut.
SESSION_SETTINGS = _words("""
statement_timeout lock_timeout idle_in_transaction_session_timeout timezone client_encoding work_mem
extra_float_digits application_name datestyle intervalstyle bytea_output client_min_messages jit
default_transaction_read_only transaction_read_only max_execution_time max_statement_time wait_timeout
group_concat_max_len time_zone
""")
READING_PRAGMAS = _words("""
table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list foreign_key_check
integrity_check quick_check
""")
STATE_PRAGMAS = _words("""
database_list collation_list compile_options function_list module_list pragma_list journal_mode page_count
page_size freelist_count user_version schema_version application_id encoding synchronous foreign_keys cache_size
auto_vacuum busy_timeout locking_mode max_page_count mmap_size data_version wal_autocheckpoint temp_store
""")
