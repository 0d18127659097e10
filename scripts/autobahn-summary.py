"""Adds a line to the results of scripts/conformance.sh, and fails if Autobahn found a case that is not met.

    autobahn-summary.py INDEX_JSON NAME RESULTS
"""

import collections
import json
import sys

# "NON-STRICT" is what RFC 6455 allows and Autobahn would do otherwise: counted, named, not a failure of the protocol.
MET = {"OK", "INFORMATIONAL", "NON-STRICT"}


def main(index, name, results):
    with open(index) as file:
        (cases,) = json.load(file).values()
    if not cases:
        sys.exit("autobahn-summary: no case was run")
    counts = collections.Counter(case["behavior"] for case in cases.values())
    # An informational case may end in any way: there is nothing to be met.
    not_met = {
        number: case
        for number, case in cases.items()
        if case["behavior"] not in MET
        or (case["behaviorClose"] not in MET and case["behavior"] != "INFORMATIONAL")
    }
    named = {number: case for number, case in cases.items() if case["behavior"] == "NON-STRICT"} | not_met
    for number in sorted(named, key=lambda text: [int(part) for part in text.split(".")]):
        case = named[number]
        print(f"{number}: {case['behavior']}, close {case['behaviorClose']} ({case.get('remoteCloseCode')}), {case['duration']} ms")
    met = ", ".join(f"{count} {behavior}" for behavior, count in sorted(counts.items(), reverse=True) if behavior in MET)
    with open(results, "a") as file:
        file.write(f"| {name} | {met} | {len(not_met)} |\n")
    sys.exit(1 if not_met else 0)


main(*sys.argv[1:])
