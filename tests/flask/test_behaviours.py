"""The table of behaviours: what stock clients see of one application, on Flask-SocketIO and on shardcast.

`behaviours.json` has what Flask-SocketIO shows to socket.io-client 4 on a WebSocket. `differences.json` has what else is seen: by
which client, on which transport, from which server. Both are proved, so a listed difference that is none any more fails, too.
README.md shows those of shardcast as a table, which is compared with the list.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import HERE, SIDES, Server

CASES = json.loads((HERE / "behaviours.json").read_text())
DIFFERENCES = json.loads((HERE / "differences.json").read_text())
PAGE = HERE / "README.md"
# Server, client, transport, shards. Flask-SocketIO 5 does not speak with clients of 2.x, so theirs is what 4 sees.
RUNS = [
    ("flask-socketio", "4", "websocket", 1), ("shardcast", "4", "websocket", 1),
    ("flask-socketio", "4", "polling", 1), ("shardcast", "4", "polling", 3),
    ("flask-socketio", "python", "websocket", 1), ("shardcast", "python", "websocket", 2),
    ("shardcast", "4", "upgrade", 3), ("shardcast", "2", "websocket", 2), ("shardcast", "2", "polling", 1),
]
NAMES = ["-".join(map(str, run)) for run in RUNS]
AT_ONCE = 3
RUN_SECONDS_MAX = 150
FIELDS = {"is", "server", "client", "transport", "sees", "why"}


def expected(case, server, client, transport):
    """What is seen: the table's, or that of the last difference that fits."""
    sees = case["sees"]
    where = {"server": server, "client": client, "transport": transport}
    for difference in DIFFERENCES:
        if difference["is"] == case["is"] and all(difference.get(key, value) in (value, [value]) for key, value in where.items()):
            sees = {**case["sees"], **difference["sees"]}
    return {letter: lines for letter, lines in sees.items() if lines}


def plays(case, client, transport):
    """Whether the client can: Python's opens one namespace, and 2.x has no auth."""
    connects = [step for step in case["steps"] if step[1] == "connect"]
    if client in case.get("not_by", ()) or transport in case.get("not_on", ()):
        return False
    if client == "python":
        return len({who for who, *_ in connects}) == len({who[0] for who, *_ in connects})
    return client == "4" or all(len(step) == 2 for step in connects)


def play(run, folder):
    """What a client saw in each case, by the case's name."""
    server, client, transport, shards = run
    cases = [
        {**case, "sees": expected(case, server, client, transport)} for case in CASES if plays(case, client, transport)
    ]
    program = [sys.executable, HERE / "clients/behaviours.py"] if client == "python" else ["node", HERE / "clients/behaviours.mjs"]
    environment = {"SHARDCAST_SHARDS": str(shards), "SHARDCAST_ALLOW_EIO3": "true"} if server == "shardcast" else {}
    app = Server(server, "behaviours.py", "{port}", "gevent" if server == "flask-socketio" else "", log=folder / "server.log", **environment)
    try:
        app.wait()
        words = [*program, app.url, *([] if client == "python" else [client]), transport]
        done = subprocess.run(words, input=json.dumps(cases), capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
        seen = {each["is"]: each["seen"] for each in map(json.loads, filter(None, done.stdout.split("\n")))}
        return cases, seen, done.stderr[-2000:] + (app.said()[-2000:] if done.returncode else "")
    finally:
        app.stop()


@pytest.fixture(scope="module")
def played(request, tmp_path_factory):
    """All runs that are asked for, some beside each other: most of their time they wait."""
    chosen = {item.callspec.params["name"] for item in request.session.items if hasattr(item, "callspec") and "name" in item.callspec.params}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, run, tmp_path_factory.mktemp(name)) for name, run in zip(NAMES, RUNS) if name in chosen}


def comparable(case, seen, client):
    """Python's client calls handlers in threads, so their order is its own."""
    is_unordered = client == "python" or case.get("unordered")
    return {letter: sorted(lines) for letter, lines in seen.items()} if is_unordered else seen


@pytest.mark.parametrize("name", NAMES)
def test_the_table(name, played):
    cases, seen, complaints = played[name].result()
    client = name.split("-")[-3]
    wrong = [
        f"{case['is']}\n  expected {json.dumps(case['sees'], ensure_ascii=False)}\n  saw      {json.dumps(seen.get(case['is']), ensure_ascii=False)}"
        for case in cases
        if comparable(case, seen.get(case["is"], {}), client) != comparable(case, case["sees"], client)
    ]
    assert len(cases) > 50
    assert not wrong, f"{len(wrong)} of {len(cases)} differ:\n" + "\n".join(wrong) + f"\n{complaints}"


def test_differences_are_of_known_cases_and_have_reasons():
    names = {case["is"] for case in CASES}
    assert len(names) == len(CASES), "two cases have one name"
    for difference in DIFFERENCES:
        assert difference["is"] in names and set(difference) <= FIELDS, difference
        assert difference.get("server") in (None, *SIDES), difference
        assert difference.get("server") != "shardcast" or difference.get("why"), f"a reason is missing: {difference['is']}"


def test_the_page_of_differences_has_each():
    lines = ["| what | Flask-SocketIO | shardcast | why |", "|---|---|---|---|"]
    by_name = {case["is"]: case for case in CASES}
    cell = lambda sees: "<br>".join(f"`{line}`" for lines in sees.values() for line in lines).replace("|", "\\|") or "nothing"
    for difference in DIFFERENCES:
        if difference.get("server") == "shardcast" and "why" in difference and "client" not in difference and "transport" not in difference:
            theirs = {letter: by_name[difference["is"]]["sees"].get(letter, []) for letter in difference["sees"]}
            lines.append(f"| {difference['is']} | {cell(theirs)} | {cell(difference['sees'])} | {difference['why']} |")
    table = "\n".join(lines)
    begin, end = "<!-- behaviours: generated -->\n", "\n<!-- end -->"
    page = PAGE.read_text()
    assert begin in page and end in page, f"{PAGE.name} has no place for the table"
    if os.environ.get("UPDATE"):
        page = page[: page.index(begin) + len(begin)] + table + page[page.index(end) :]
        PAGE.write_text(page)
    assert table in page, "README.md is old: UPDATE=1 scripts/test-python.sh behaviours writes it anew"
