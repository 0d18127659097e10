"""The results as a page for people and as JSON for programs."""

import json
import pathlib
import statistics

ROOT = str(pathlib.Path(__file__).resolve().parents[2]) + "/"


def relative(command):
    """A command as it is typed in the repository, whatever machine it ran on."""
    return [word.replace(ROOT, "") for word in command]


def summarise(records):
    """The rows of one scenario: each server's median and range over its rounds."""
    rows = {}
    for record in records:
        rows.setdefault((record["server"], record["shards"]), []).append(record)
    return {key: {"runs": runs, **{name: spread(runs, name) for name in SPREAD}} for key, runs in rows.items()}


SPREAD = [
    "cpu_us", "core_us", "messages_per_second", "p50_us", "p99_us", "p999_us", "client_busy", "server_busy",
    "resident_per_connection", "resident_peak_per_connection", "resident_peak", "slab_per_pair",
]


def spread(runs, name):
    """Clean runs only, as long as there is one."""
    clean = [run for run in runs if not run["doubts"]] or runs
    values = [run[name] for run in clean if run.get(name) is not None]
    return (statistics.median(values), min(values), max(values)) if values else None


def write(folder, session, scenarios, records):
    """Writes both files; returns their paths."""
    stem = f"{session['started'][:10]}-{session['machine']['host']}" + ("-quick" if session["is_quick"] else "")
    if not session["is_quick"] and (folder / f"{stem}.json").exists():
        stem += f"-{session['started'][11:16].replace(':', '')}"
    page, data = folder / f"{stem}.md", folder / f"{stem}.json"
    data.write_text(json.dumps({"session": session, "runs": records}, indent=1).replace(ROOT, "") + "\n")
    page.write_text("\n".join(lines(session, scenarios, records)) + "\n")
    return page, data


def lines(session, scenarios, records):
    yield from head(session)
    for scenario in scenarios:
        chosen = [record for record in records if record["scenario"] == scenario.name]
        if chosen:
            yield from section(scenario, summarise(chosen))
    yield from ending(session, records)


def head(session):
    about = session["machine"]
    yield f"# Results of {session['started']} on {about['host']}"
    yield ""
    if session["is_quick"]:
        yield "**A smoke run**: two seconds a scenario, one round. It shows that everything works; its numbers show nothing else."
        yield ""
    yield "How to read this, and what not to conclude: ../README.md."
    yield ""
    yield "| | |"
    yield "|---|---|"
    costly = "; ".join(f"{name}: {text}" for name, text in about["mitigations"].items()) or "none that cost"
    facts = [
        ("CPU", f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB" + (", virtual" if about["hypervisor"] else "")),
        ("Kernel", f"{about['kernel']}; mitigations: {costly}; congestion control {about['congestion_control']}"),
        ("io_uring", {"0": "allowed"}.get(about["io_uring_disabled"], f"io_uring_disabled = {about['io_uring_disabled']}")),
        ("Network", "loopback; no TLS, no compression; TCP_NODELAY everywhere"),
        ("Cores", f"server {session['server_cores'][0]} ({session['server_cores']} where two are said), generator {session['client_cores'][0]}" + (", server SCHED_FIFO" if session["is_fifo"] else "")),
        ("Load before", f"{about['load_before']:.2f}"),
        ("Versions", f"{about['rustc']}; node {about['node']}; shardcast {session['commit']}"),
        ("Build", "release, thin LTO, one codegen unit, no target-cpu; mimalloc for the Rust servers but limit"),
        ("Rounds", f"{session['rounds']}, interleaved, the order turned each round"),
        ("Command", f"`{session['command']}`"),
    ]
    yield from (f"| {name} | {value} |" for name, value in facts)


def section(scenario, rows):
    yield ""
    yield f"## {scenario.name}: {scenario.title}"
    yield ""
    if scenario.note:
        yield scenario.note
        yield ""
    base = {name: rows.get((name, 1)) for name in ("limit", "socketioxide")}
    for at, ((name, shards), row) in enumerate(rows.items()):
        columns = columns_of(scenario, name if shards == 1 else f"{name}, {shards} cores", row, base)
        if at == 0:
            yield f"| {' | '.join(title for title, _ in columns)} |"
            yield "|---" * len(columns) + "|"
        yield f"| {' | '.join(cell for _, cell in columns)} |"
    found = [(run["server"], doubt) for row in rows.values() for run in row["runs"] for doubt in run["doubts"]]
    if found:
        yield ""
        yield "Doubts:"
        yield ""
        yield from (f"- {name}: {doubt} ({found.count((name, doubt))}x)" for name, doubt in dict.fromkeys(found))


def columns_of(scenario, name, row, base):
    """Title and cell of each column of one row."""
    clean = sum(not run["doubts"] for run in row["runs"])
    start, end = [("server", name)], [("clean runs", f"{clean}/{len(row['runs'])}")]
    if scenario.is_memory:
        return start + memory_columns(row, base) + end
    if scenario.slow:
        end = slow_columns(row) + end
    return start + load_columns(scenario, row, base) + end


def load_columns(scenario, row, base):
    is_client_bound = any(doubt.startswith("client-bound") for run in row["runs"] for doubt in run["doubts"])
    return [
        (f"CPU us per {scenario.unit} (range)", ranged(row["cpu_us"], 2)),
        ("x limit", ratio(row, base["limit"], "cpu_us")),
        ("x socketioxide", ratio(row, base["socketioxide"], "cpu_us")),
        (f"{plural(scenario.unit)}/s", ("> " if is_client_bound else "") + number(row["messages_per_second"])),
        ("p50 us", number(row["p50_us"])),
        ("p99 us", number(row["p99_us"])),
        ("p99.9 us", number(row["p999_us"])),
        ("core us", number(row["core_us"], 2)),
        ("server busy", f"{row['server_busy'][0]:.0%}"),
        ("client busy", f"{row['client_busy'][0]:.0%}"),
    ]


def memory_columns(row, base):
    return [
        ("bytes/connection (range)", ranged(row["resident_per_connection"], 0)),
        ("at most", number(row["resident_peak_per_connection"])),
        ("x limit", ratio(row, base["limit"], "resident_per_connection")),
        ("x socketioxide", ratio(row, base["socketioxide"], "resident_per_connection")),
        ("kernel slab, both ends", number(row["slab_per_pair"])),
        ("server busy", f"{row['server_busy'][0]:.1%}"),
    ]


def slow_columns(row):
    slow = [run["client"]["slow"] for run in row["runs"]]
    closed, clients = sum(of["closed_by_server"] for of in slow), sum(of["clients"] for of in slow)
    return [("MB grown at most", number(row["resident_peak"])), ("slow ones closed", f"{closed}/{clients}")]


def ratio(row, other, name):
    if not row[name] or not other or not other[name] or not other[name][0]:
        return "-"
    return f"{row[name][0] / other[name][0]:.2f}"


def ranged(value, digits):
    if value is None:
        return "-"
    middle, least, most = (f"{part:,.{digits}f}" for part in value)
    return f"**{middle}** ({least}-{most})"


def ending(session, records):
    yield ""
    yield "## The machine while this ran"
    yield ""
    for key, name in (("round_trip_ns", "Core to core and back"), ("arithmetic_ns", "Fixed arithmetic")):
        values = sorted(record[probe][key][1] / 1000 for record in records for probe in ("probe_before", "probe_after"))
        if values:
            yield f"- {name}: median {statistics.median(values):.1f} us, from {values[0]:.1f} to {values[-1]:.1f} over {len(values)} probes."
    yield ""
    yield "## Commands"
    yield ""
    yield "```"
    seen = {}
    for record in records:
        key = (record["scenario"], record["server"], record["shards"])
        seen.setdefault(key, (relative(record["server_command"]), relative(record["client_command"])))
    for server, client in seen.values():
        yield " ".join(server)
        yield "  " + " ".join(client)
    yield "```"
    if session["failures"]:
        yield ""
        yield "## What did not run"
        yield ""
        yield from (f"- {text}" for text in session["failures"])


def number(value, digits=0):
    return "-" if value is None else f"{value[0]:,.{digits}f}"


def plural(unit):
    return "deliveries" if unit == "delivery" else f"{unit}s" if unit != "echo" else "echoes"
