"""JSON to Python objects and back: as Python's own `json`, and by both readers alike."""

import json
import math
import random

import pytest

from flask_shardcast._native import read_args, read_direct, read_tape, write_args

TEXTS = [
    '1', '-0', '0.5', '-1.5e-7', '1e300', '9223372036854775807', '-9223372036854775808', '9223372036854775808', '18446744073709551615',
    '18446744073709551616', '123456789012345678901234567890', 'true', 'false', 'null', '""', '"plain"', '"\\u00e9\\n\\t\\"\\\\\\/\\b\\f\\r"',
    '"é€😀"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00x"', '"a\\ud83db"', '[]', '{}', '[[],{},[{}]]', '{"a":1,"b":[true,null],"é":"x"}',
    '{"a":1,"a":2}', ' [ 1 , 2 ] ', '{ "a" : { "b" : [ ] } }', '"%s"' % ("x" * 5000), '[%s]' % ",".join("1" * 600),
    '{"' + "k" * 60 + '":1}', "[" * 100 + "]" * 100,
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:30])
def test_values_are_those_of_json(text):
    wanted = json.loads(text)
    for read in (read_args, read_direct):
        found, = read(text)
        assert repr(found) == repr(wanted)
    by_tape = read_tape(text)
    # simd-json refuses half characters and what is beyond 64 bits; then the other reader is used.
    assert by_tape is None or repr(by_tape[0]) == repr(wanted)


def test_several_arguments():
    assert read_args("", []) == ()
    assert read_args('1,"two",[3]') == (1, "two", [3])
    assert read_tape('1,"two",[3]') == read_direct('1,"two",[3]') == (1, "two", [3])


def random_value(rng, depth):
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(6))]
    if kind == 8:
        return {random_text(rng): random_value(rng, depth - 1) for _ in range(rng.randrange(6))}
    return [None, True, False, rng.randrange(-10**20, 10**20), rng.uniform(-1e9, 1e9), random_text(rng), rng.randrange(100)][kind]


def random_text(rng):
    return "".join(rng.choice('ab "\\\n\té€😀\x00\x1f\x7f ') for _ in range(rng.randrange(12)))


def test_random_values_come_back_and_both_readers_agree():
    rng = random.Random(14)
    for _ in range(500):
        args = tuple(random_value(rng, 4) for _ in range(rng.randrange(1, 4)))
        text, attachments = write_args(args)
        assert attachments == []
        assert tuple(json.loads(f"[{text}]")) == args
        escaped = json.dumps(args)[1:-1]
        for written in (text, escaped):
            assert read_args(written) == read_direct(written) == args
            by_tape = read_tape(written)
            assert by_tape is None or by_tape == args


def test_broken_text_is_an_error_and_no_crash():
    for text in ["[", "{", '"', '{"a"', '{"a":}', "[1,", "tru", "nul", "1,", ",1", "[1}", '"\\u12', '"\\', "-", "{1:2}", "[" * 200 + "]" * 200]:
        with pytest.raises(ValueError):
            read_direct(text)
        with pytest.raises(ValueError):
            read_args(text)


def test_bytes_travel_beside_the_text():
    value = {"a": b"\x01\x02", "list": [bytearray(b"x"), {"deep": b""}], "n": 1}
    text, attachments = write_args((value, b"last"))
    assert attachments == [b"\x01\x02", b"x", b"", b"last"]
    assert read_args(text, attachments) == ({"a": b"\x01\x02", "list": [b"x", {"deep": b""}], "n": 1}, b"last")
    # A long text, which the other reader reads.
    filled = {"fill": "x" * 2000, "a": b"\x01"}
    text, attachments = write_args((filled,))
    assert read_args(text, attachments) == (filled,)


def test_a_placeholder_of_nothing_stays_what_it_is():
    forged = '{"_placeholder":true,"num":7}'
    assert read_args(forged) == ({"_placeholder": True, "num": 7},)
    assert read_args(forged, [b"only one"]) == ({"_placeholder": True, "num": 7},)
    for number in ("-1", '"0"', "null", "1e9"):
        text = '{"_placeholder":true,"num":%s}' % number
        assert read_args(text, [b"one"]) == (json.loads(text),)


class Text(str):
    def __str__(self):
        return "something else"


class Number(int):
    def __repr__(self):
        return "something else"


@pytest.mark.parametrize("value, text", [
    (None, ""), ((), ""), ((None,), "null"), ([], "[]"), ((1, 2), "1,2"), ([(1, 2)], "[[1,2]]"), (Text("a"), '"a"'), (Number(7), "7"),
    (Number(10**30), str(10**30)), (True, "true"), ({1: 2, None: 3, True: 4, 1.5: 5}, '{"1":4,"null":3,"1.5":5}'), (math.nan, "null"),
    (math.inf, "null"), (0.1, "0.1"), (1e22, "1e22"), ("\x00\x1f\"\\", '"\\u0000\\u001f\\"\\\\"'), ("\ud83d", '"\\ud83d"'),
])
def test_what_is_written(value, text):
    assert write_args(value) == (text, [])


def test_what_cannot_be_written_is_an_error_as_in_json():
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        write_args({"a": {1}})
    with pytest.raises(TypeError, match="keys must be str, int, float, bool or None, not tuple"):
        write_args({(1,): 1})
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError):
        write_args(endless)
    assert write_args({"when": {3}}, lambda value: sorted(value)) == ('{"when":[3]}', [])
