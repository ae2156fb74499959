"""What a user's statement calls, read from its parse tree: what is refused, and what needs a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from finetui.errors import StoreError
from store.macros import MACROS

# Table functions reach further than tables: `SELECT * FROM enable_logging()` alone can end the process.
# So only those that are known to read the catalog or to make rows are let through.
_TABLE_FUNCTIONS = {
    *MACROS,
    *("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "summary"),
    *("pragma_table_info", "pragma_show", "pragma_database_size", "pragma_version", "pragma_storage_info"),
    *("duckdb_columns", "duckdb_databases", "duckdb_functions", "duckdb_keywords", "duckdb_memory"),
    *("duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
}
# In DuckDB 2 the body of a WITH may be INSERT, UPDATE, DELETE or COPY … TO, and the statement a SELECT all the same.
_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
_INTERNAL = "__internal"  # functions of DuckDB's own, for its plans
_REFUSED = frozenset({"write_log", "sleep_ms", "query", "query_table", "json_execute_serialized_sql"})

# DuckDB looks at an interrupt between blocks of rows. These do little with each row: their work and their result grow
# no faster than what they are given. Whatever is not listed (`levenshtein`, `repeat`, `list_transform`, `range` in a
# row, what a later DuckDB brings) may go on in one block for minutes.
_QUICK = frozenset(
    f"""
    + - * / // % ** ^ & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ ^@ @> <@ && ->> -> = <> < > <= >= add subtract multiply
    divide
    abs sign ceil ceiling floor round round_even trunc sqrt cbrt exp ln log log10 log2 pow power mod fmod fdiv pi
    sin cos tan asin acos atan atan2 radians degrees even gcd lcm greatest least isnan isinf isfinite signbit xor
    bit_count random coalesce nullif ifnull if case error constant_or_null hash md5 sha1 sha256 uuid
    gen_random_uuid typeof
    lower upper lcase ucase length len strlen char_length character_length left right substr substring trim ltrim
    rtrim instr strpos position contains starts_with ends_with prefix suffix concat concat_ws split_part
    string_split split str_split string_to_array reverse ascii unicode chr ord hex unhex regexp_matches
    regexp_full_match regexp_extract regexp_extract_all like_escape not_like_escape ilike_escape not_ilike_escape
    parse_filename parse_dirname parse_path format_bytes formatreadablesize formatreadabledecimalsize
    age date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add day dayname dayofmonth
    dayofweek dayofyear isodow week weekday weekofyear month monthname quarter year yearweek hour minute second
    millisecond microsecond epoch epoch_ms epoch_us epoch_ns last_day make_date make_time make_timestamp strftime
    strptime try_strptime time_bucket timezone to_timestamp to_seconds to_minutes to_hours to_days to_weeks
    to_months to_years to_milliseconds to_microseconds now today current_date current_timestamp current_time
    get_current_timestamp get_current_time transaction_timestamp
    list_value list_pack list_extract list_element array_extract list_contains array_contains list_has list_has_any
    list_has_all list_position list_indexof list_slice array_slice list_sort list_reverse_sort list_distinct
    list_unique list_concat list_append list_prepend list_sum list_avg list_min list_max list_median list_count
    list_first list_last list_any_value list_string_agg array_to_string array_length cardinality flatten unnest
    struct_pack row struct_extract struct_extract_at struct_insert struct_keys struct_values element_at map
    map_extract map_extract_value map_keys map_values map_entries map_from_entries map_contains
    json json_extract json_extract_string json_extract_path json_extract_path_text json_array_length json_keys
    json_type json_valid json_exists json_contains json_value json_array json_object json_quote to_json row_to_json
    json_structure json_group_array json_group_object
    any_value approx_count_distinct approx_quantile arbitrary arg_max arg_max_null arg_min arg_min_null
    argmax argmin max_by min_by array_agg avg mean bit_and bit_or bit_xor bool_and bool_or corr count count_if
    count_star countif covar_pop covar_samp entropy favg first first_value fsum kahan_sum sumkahan group_concat
    histogram kurtosis kurtosis_pop lag last last_value lead list listagg mad max median min mode nth_value ntile
    percent_rank cume_dist dense_rank rank rank_dense row_number product quantile quantile_cont quantile_disc
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    sem skewness stddev stddev_pop stddev_samp string_agg sum sum_no_overflow var_pop var_samp variance wavg
    weighted_avg geomean grouping grouping_id
    current_database current_schema current_setting version {" ".join(MACROS)}
    """.split()
)
# What they make is as long as all that they are given: `x || x` of `x || x` … doubles with every call.
_GROWING = frozenset(
    {"||", "concat", "concat_ws", "list_concat", "list_value", "list_pack", "row", "struct_pack"}
)
_MOST_GROWTH = 256  # times
# To plan a join is not interrupted either: of 60 tables it takes seconds, and soon far more. A view is several.
_QUICK_TABLES = 12
QUICK_LENGTH = 20_000  # characters; to read the tree of five times as many takes seconds


@dataclass(frozen=True)
class Calls:
    """What a statement calls, in lower case, what its parts do, and how many tables it names."""

    functions: frozenset[str]
    table_functions: frozenset[str]
    writes: frozenset[str]  # parts that do more than read, as INSERT
    tables: int
    growth: int  # how many times as long as its values its texts and lists may be, at most

    @property
    def refused(self) -> str | None:
        """What of it is not allowed, if there is something."""
        internal = {one for one in self.functions if one.startswith(_INTERNAL)}
        refused = internal | (self.functions & _REFUSED) | (self.table_functions - _TABLE_FUNCTIONS)
        parts = [f"the function {one}" for one in refused] + [f"{one} in a WITH" for one in self.writes]
        return min(parts, default=None)

    @property
    def may_hold(self) -> bool:
        """Whether the database may work on it for long without looking at an interrupt."""
        return not self.functions <= _QUICK or self.tables > _QUICK_TABLES or self.growth > _MOST_GROWTH


def read_calls(cursor: duckdb.DuckDBPyConnection, sql: str) -> Calls:
    """Read them from a SELECT that parses. Raises StoreError `refused` for a form that has no tree."""
    # All of the answer: with a part of it left, DuckDB 2 lets the cursor do nothing else.
    rows = cursor.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    tree = json.loads(rows[0][0]) if rows else {"error": True}
    if tree.get("error"):
        raise StoreError(
            "this form is not allowed here; DESCRIBE and SHOW do most of what PRAGMA does", "refused"
        )
    functions, table_functions, writes, tables, growth = set[str](), set[str](), set[str](), 0, 1
    for node, is_table in _nodes(tree):
        name = node.get("function_name")
        if isinstance(name, str):
            (table_functions if is_table else functions).add(name.lower())
            growth = min(growth * _times(name.lower(), node), 2 * _MOST_GROWTH)
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _QUERIES:
            writes.add(kind.partition("_")[0])
        tables += kind in ("BASE_TABLE", "TABLE_FUNCTION") or node.get("class") == "SUBQUERY"
    return Calls(frozenset(functions), frozenset(table_functions), frozenset(writes), tables, growth)


def _times(name: str, call: dict[str, Any]) -> int:
    """How many times as long as its longest argument the result of a call may be; constants are short."""
    if name not in _GROWING:
        return 1
    given = [one.get("expression") for one in call.get("arguments", [])]  # DuckDB 2
    given += call.get("children", [])  # DuckDB 1
    return max(1, sum(one.get("class") != "CONSTANT" for one in given))


def _nodes(node: Any, is_table: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every object of the tree, and whether it is the function of a table function."""
    if isinstance(node, list):
        for inner in node:
            yield from _nodes(inner)
    elif isinstance(node, dict):
        yield node, is_table
        for key, inner in node.items():
            yield from _nodes(inner, key == "function" and node.get("type") == "TABLE_FUNCTION")
