"""Access logs of gateways: columns by name, times, time zones, ids, bad rows."""

import pytest
from trace_files import COLUMNS, LOG, SEED, file, lines, packed, same

from simulator.errors import ServelabError
from simulator.workload import LogColumns, TraceWarning, TraceWorkload, generate, read_trace


def test_access_log_sorts_and_understands_offsets(tmp_path):
    path = file(tmp_path, LOG, "a.log")
    table = read_trace(path, "access_log", columns=COLUMNS)
    assert table.arrival_s == pytest.approx([0, 1.5, 1800])
    assert table.prompt_tokens.tolist() == [200, 100, 300]
    assert same(read_trace(packed(path), "access_log", columns=COLUMNS), table)
    config = TraceWorkload(path=path.name, format="access_log", columns=COLUMNS)
    assert same(generate(config, SEED, tmp_path), table)


def test_access_log_of_json_lines(tmp_path):
    records = [
        {"ts": 1700000002500, "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "limit": 9},
        {"ts": 1700000000000, "usage": {"prompt_tokens": 8, "completion_tokens": 4}, "limit": 4},
    ]
    columns = LogColumns(
        time="ts",
        time_unit="ms",
        prompt_tokens="usage.prompt_tokens",
        output_tokens="usage.completion_tokens",
        max_tokens="limit",
    )
    path = file(tmp_path, lines(records), "a.jsonl")
    table = read_trace(path, "access_log", columns=columns)
    assert table.arrival_s.tolist() == [0.0, 2.5] and table.prompt_tokens.tolist() == [8, 7]
    assert table.max_tokens.tolist() == [4, 9]
    path = file(tmp_path, lines([records[0], "oops", records[1]]), "b.jsonl")
    with pytest.raises(ServelabError, match="row 2: the line must be a JSON object, got 'oops'"):
        read_trace(path, "access_log", columns=columns)
    with pytest.warns(TraceWarning, match="1 of 3 rows"):
        assert same(read_trace(packed(path), "access_log", columns=columns, max_bad_share=0.5), table)


def test_access_log_in_the_format_of_nginx(tmp_path):
    text = "t,p,o\n01/Jun/2024:12:00:00 +0200,5,6\n01/Jun/2024:10:00:01 +0000,7,8\n"
    columns = LogColumns(time="t", prompt_tokens="p", output_tokens="o", time_format="%d/%b/%Y:%H:%M:%S %z")
    assert read_trace(file(tmp_path, text, "n.csv"), "access_log", columns=columns).arrival_s.tolist() == [0.0, 1.0]


def test_clock_changes_need_a_time_zone(tmp_path):
    times = ["2024-10-27 00:30:00", "2024-10-27 04:30:00"]  # Berlin sets its clock back by an hour between
    columns = {"time": "t", "prompt_tokens": "p", "output_tokens": "o"}
    path = file(tmp_path, "t,p,o\n" + "".join(f"{t},1,1\n" for t in times), "t.csv")
    for zone, hours in ((None, 4), ("Europe/Berlin", 5), ("UTC", 4)):
        table = read_trace(path, "access_log", columns=LogColumns(**columns, timezone=zone))
        assert table.arrival_s[1] == hours * 3600
    path = file(tmp_path, "t,p,o\n2024-10-27 02:30:00,1,1\n", "twice.csv")
    with pytest.raises(ServelabError, match="once in Europe/Berlin, got '2024-10-27 02:30:00'"):
        read_trace(path, "access_log", columns=LogColumns(**columns, timezone="Europe/Berlin"))
    path = file(tmp_path, "t,p,o\n2024-10-27T02:30:00Z,1,1\n2024-10-27T02:31:00,1,1\n", "mixed.csv")
    with pytest.raises(ServelabError, match=r"row 2: t must be .* with an offset \(or set timezone\)"):
        read_trace(path, "access_log", columns=LogColumns(**columns))


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        (LOG, {"prompt_tokens": "inn"}, r"no column 'inn' \(did you mean 'in'\?\); the file has when, route, in, out"),
        (LOG, {"delimiter": ","}, "columns must be separated by ',', got the header 'when;route;in;out'"),
        (LOG.replace(";200;", ";many;"), {}, "row 2: in must be a whole number up to 2147483647, got 'many'"),
        (LOG.replace("12:00:00", "late"), {}, "row 2: when must be a time such as .*, got '2024-06-01Tlate'"),
        (LOG.splitlines()[0] + "\n", {}, "the trace has no rows"),
        (
            '{"when": 1, "usage": {"in": 2, "out": 3}}\n',
            {"prompt_tokens": "usage.inn"},
            r"no column 'usage.inn' \(did you mean 'usage.in'\?\)",
        ),
    ],
)
def test_bad_log_is_refused(tmp_path, text, columns, says):
    with pytest.raises(ServelabError, match=says):
        read_trace(file(tmp_path, text, "a.log"), "access_log", columns=COLUMNS.model_copy(update=columns))


def test_rows_that_were_logged_twice(tmp_path):
    text = LOG.replace("when;", "when;id;").replace("route", "who")
    rows = [
        ";".join([r.split(";")[0], i, *r.split(";")[1:]])
        for r, i in zip(text.splitlines()[1:], ("a", "b", "a"), strict=True)
    ]
    path = file(tmp_path, "\n".join([text.splitlines()[0], *rows]) + "\n", "a.log")
    columns = COLUMNS.model_copy(update={"request_id": "id", "tenant": "who"})
    with pytest.raises(ServelabError, match="row 3: id must be an id of no earlier row, got 'a'"):
        read_trace(path, "access_log", columns=columns)
    with pytest.warns(TraceWarning, match="1 of 3 rows"):
        table = read_trace(path, "access_log", columns=columns, max_bad_share=0.4)
    assert table.prompt_tokens.tolist() == [200, 100] and table.tenants == ("/v1/chat",)
    path = file(tmp_path, path.read_text().replace(";b;", ";;"), "b.log")
    with pytest.raises(ServelabError, match=r"row 2: id must be an id, got nothing \(NaN\)"):
        read_trace(path, "access_log", columns=columns)
