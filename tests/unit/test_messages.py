"""Commands as messages: what travels, and what is refused when it arrives."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from time import perf_counter, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polydatum import (
    CommandError,
    CommandRejected,
    ConfigurationError,
    InvalidCommandArguments,
    InvalidCommandPath,
    Signer,
)
from polydatum.messages import (
    CLOCK_SKEW,
    MAX_AGE,
    MAX_BYTES,
    MAX_DEPTH,
    Message,
    arguments_as_json,
    as_json,
    as_text,
    fault_of,
)

KEY = "a key of sixteen bytes or more"
SIGNER = Signer(KEY)


def message(**changes: Any) -> Message:
    return Message("id-1", "items.add", ["tea"], {"price": 2.5}, 7, time())._replace(**changes)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# --- What may travel --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
def test_json_travels_as_it_is(args: list[Any], kwargs: dict[str, Any]) -> None:
    text = arguments_as_json("items.add", args, kwargs)
    assert json.loads(text) == [args, kwargs]
    data = json.loads(json.dumps(message(args=args, kwargs=kwargs).as_data(SIGNER)))
    arrived = Message.read(data, SIGNER)
    assert (arrived.args, arrived.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({1, 2}, "contains a set"),
        (b"tea", "contains a bytes"),
        ([object()], "contains a object"),
        ({"deep": [{"when": time}]}, "contains a builtin_function_or_method"),
        ({1: "one"}, "keys that are not strings"),
        (float("nan"), "contains a number"),
        ([float("inf")], "contains a number"),
        (10**5000, "contains a number"),
        ("x" * MAX_BYTES, "is larger"),
        ("é" * (MAX_BYTES // 2), "is larger"),
        ([0] * MAX_BYTES, "is larger"),
        ({"x" * MAX_BYTES: 0}, "is larger"),
        ([["x" * (MAX_BYTES // 3)] * 3], "is larger"),
        (nested(MAX_DEPTH + 1), "nested deeper than 20"),
        (nested(10_000), "nested deeper than 20"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 50 else type(value).__name__,
)
def test_what_is_no_json_or_too_much_of_it_does_not_travel(value: Any, fault: str) -> None:
    with pytest.raises(InvalidCommandArguments, match=fault) as caught:
        arguments_as_json("items.add", [], {"name": value})
    assert str(caught.value).startswith("command 'items.add': argument 'name' ")
    assert len(str(caught.value)) < 200


def test_subclasses_of_json_types_do_not_travel() -> None:
    """They would arrive as something else."""

    class Price(float): ...

    assert "contains a Price" in str(fault_of([Price(1)]))


def test_limits_can_be_used_up() -> None:
    assert fault_of(nested(MAX_DEPTH)) is None
    assert fault_of("x" * (MAX_BYTES - 2)) is None


def test_arguments_have_one_limit_together() -> None:
    half = "x" * (MAX_BYTES // 2)
    with pytest.raises(InvalidCommandArguments, match="its arguments are larger than 65536 bytes"):
        arguments_as_json("items.add", [half], {"name": half})


# --- What is refused when it arrives ----------------------------------------------------------------------------------


def signed(text: str) -> str:
    """Text by somebody who has the key."""
    return SIGNER._signatures(text)[0] + text


GOOD = message().as_data(SIGNER)
HOSTILE: dict[str, tuple[Any, type[CommandError], str]] = {
    "no object": (["items.add"], CommandRejected, "it is a list, not an object"),
    "10 MB of text": ("x" * 10**7, CommandRejected, "more than 135168 characters"),
    "text that is not JSON": (signed("{import os}"), CommandRejected, "text, but not a JSON object"),
    "text nested 100,000 deep": (signed('{"args":' + "[" * 100_000), CommandRejected, "text, but not a JSON object"),
    "text of another path": (as_text({**GOOD, "path": "items.remove"}), CommandRejected, "is wrong"),
    "text that is not signed": (as_json(GOOD), CommandRejected, "it is not signed"),
    "64 KiB of text, forged": ("0" * 64 + as_json({**GOOD, "args": [0] * 32_000}), CommandRejected, "is wrong"),
    "pickled": (b"\x80\x04K\x01.", CommandRejected, "it is a bytes"),
    "nothing": ({}, CommandRejected, "version 1"),
    "of the future": ({**GOOD, "version": 2}, CommandRejected, "version 1"),
    "version true": ({**GOOD, "version": True}, CommandRejected, "version 1"),
    "a field too few": ({name: GOOD[name] for name in GOOD if name != "sent"}, CommandRejected, "its fields"),
    "a field too many": ({**GOOD, "eval": "1"}, CommandRejected, "its fields"),
    "an id of no form": ({**GOOD, "id": "a b"}, CommandRejected, "its id"),
    "an id of 10 MB": ({**GOOD, "id": "x" * 10**7}, CommandRejected, "its id"),
    "an id that is a list": ({**GOOD, "id": ["x"]}, CommandRejected, "its id"),
    "a path of 10 MB": ({**GOOD, "path": "x." * 5_000_000}, InvalidCommandPath, "10000000 characters"),
    "a path of 10,000 segments": ({**GOOD, "path": ".".join("a" * 10_000)}, InvalidCommandPath, "characters"),
    "a dunder": ({**GOOD, "path": "items.__class__"}, InvalidCommandPath, "segment 2"),
    "a path that is a number": ({**GOOD, "path": 5}, InvalidCommandPath, "int"),
    "args that are an object": ({**GOOD, "args": {}}, CommandRejected, "its args"),
    "kwargs that are a list": ({**GOOD, "kwargs": []}, CommandRejected, "its kwargs"),
    "a user that is an object": ({**GOOD, "user_id": {"id": 1}}, CommandRejected, "its user_id"),
    "a user of 10 MB": ({**GOOD, "user_id": "x" * 10**7}, CommandRejected, "its user_id"),
    "a time that is text": ({**GOOD, "sent": "now"}, CommandRejected, "its time"),
    "a time that is no number": ({**GOOD, "sent": float("nan")}, CommandRejected, "its time"),
    "nested 10,000 deep": ({**GOOD, "args": nested(10_000)}, InvalidCommandArguments, "nested deeper"),
    "too many arguments": ({**GOOD, "args": [0] * 10**6}, InvalidCommandArguments, "larger"),
    "an argument of 10 MB": ({**GOOD, "kwargs": {"name": "x" * 10**7}}, InvalidCommandArguments, "larger"),
    "not a number": ({**GOOD, "args": [float("nan")]}, InvalidCommandArguments, "contains a number"),
    "unsigned": ({name: GOOD[name] for name in GOOD if name != "signature"}, CommandRejected, "it is not signed"),
    "signed by nobody": ({**GOOD, "signature": None}, CommandRejected, "it is not signed"),
    "signed by somebody": (message().as_data(Signer("another key of sixteen bytes")), CommandRejected, "is wrong"),
    "signed with 10 MB": ({**GOOD, "signature": "é" * 10**7}, CommandRejected, "is wrong"),
    "another path": ({**GOOD, "path": "items.remove"}, CommandRejected, "is wrong"),
    "other arguments": ({**GOOD, "args": ["all"]}, CommandRejected, "is wrong"),
    "another user": ({**GOOD, "user_id": 1}, CommandRejected, "is wrong"),
    "another id": ({**GOOD, "id": "id-2"}, CommandRejected, "is wrong"),
    "another time": ({**GOOD, "sent": time() + 1}, CommandRejected, "is wrong"),
    "stale": (message(sent=time() - MAX_AGE - 1).as_data(SIGNER), CommandRejected, "last 86400 seconds"),
    "of a clock ahead": (
        message(sent=time() + CLOCK_SKEW + 3600).as_data(SIGNER),
        CommandRejected,
        "last 86400 seconds",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_refused_by_name(name: str) -> None:
    data, error, problem = HOSTILE[name]
    with pytest.raises(error, match=problem) as caught:
        Message.read(data, SIGNER)
    assert len(str(caught.value)) < 300


def counting() -> None:
    """Takes a millisecond at 20 ns a turn. A slower core may take longer for a message, too."""
    for _ in range(50_000):
        pass


def best_of_some(work: Callable[[], object]) -> float:
    """The seconds it takes; the machine may be busy."""

    def seconds() -> float:
        started = perf_counter()
        work()
        return perf_counter() - started

    return min(seconds() for _ in range(20))


@pytest.mark.parametrize("name", HOSTILE)
def test_it_takes_less_than_a_millisecond_and_a_mebibyte(name: str) -> None:
    data, error, _ = HOSTILE[name]

    def refused() -> None:
        with pytest.raises(error):
            Message.read(data, SIGNER)

    refused()
    assert best_of_some(refused) < max(0.001, best_of_some(counting))
    tracemalloc.start()
    try:
        with pytest.raises(error):
            Message.read(data, SIGNER)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), JSON) | JSON)
def test_whatever_arrives_is_a_message_or_refused(data: Any) -> None:
    for candidate in (data, {**GOOD, **data} if isinstance(data, dict) else GOOD):
        try:
            assert Message.read(candidate).path
        except CommandError:
            pass


def test_what_was_signed_is_accepted() -> None:
    sent = message()
    assert Message.read(sent.as_data(SIGNER), SIGNER) == sent


def test_it_may_come_as_text() -> None:
    sent = message()
    assert Message.read(as_text(sent.as_data(SIGNER)), SIGNER) == sent
    assert Message.read(as_text(sent.as_data(SIGNER))) == Message.read(as_text(sent.as_data())) == sent
    assert Message.read(json.dumps(sent.as_data(), indent=1)) == sent


def test_without_a_signer_a_signature_is_not_looked_at() -> None:
    sent = message()
    assert Message.read({**sent.as_data(), "signature": "whatever"}) == Message.read(sent.as_data()) == sent


# --- Keys -------------------------------------------------------------------------------------------------------------


def test_keys_can_be_changed_while_messages_are_on_their_way() -> None:
    new = b"a new key of sixteen bytes"
    sent = message()
    assert Message.read(sent.as_data(SIGNER), Signer(new, KEY)) == sent
    with pytest.raises(CommandRejected):
        Message.read(sent.as_data(Signer(new, KEY)), SIGNER)


@pytest.mark.parametrize("keys", [(), ("too short",), (KEY, b""), (None,)])
def test_a_short_key_is_refused(keys: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="16 bytes"):
        Signer(*keys)


@pytest.mark.parametrize("max_age", [0, -1.0, float("nan")])
def test_signatures_that_never_hold_are_refused(max_age: float) -> None:
    with pytest.raises(ConfigurationError, match="max_age"):
        Signer(KEY, max_age=max_age)


def test_a_signer_does_not_show_its_keys() -> None:
    assert repr(SIGNER) == "<Signer of 1 keys>"
