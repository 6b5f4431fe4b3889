"""The error tree: codes are unique, documented where the tree is drawn, and survive a process boundary."""

import pytest

from alphareel.domain import errors


def every_error(kind=errors.AlphareelError):
    for child in (k for k in kind.__subclasses__() if k.__module__ == errors.__name__):
        yield child
        yield from every_error(child)


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda k: k.__name__))  # type: ignore[attr-defined]
def test_the_docstring_of_errors_lists_every_error_and_its_code(kind):
    line = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
    assert kind.code in line
    assert ("*" in line) == kind.retryable


def test_error_codes_are_unique():
    codes = [kind.code for kind in set(every_error())]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda k: k.__name__))  # type: ignore[attr-defined]
def test_an_error_is_rebuilt_from_its_code(kind):
    again = errors.by_code(kind.code, "What was wrong.", hint="What to do.")
    assert type(again) is kind
    assert str(again) == "What was wrong. What to do."


def test_an_unknown_error_code_becomes_an_internal_error():
    assert type(errors.by_code("from_the_future", "x")) is errors.InternalError


def test_a_message_and_its_hint_are_two_sentences():
    assert str(errors.InvalidState("No. Never.", hint="Stop.")) == "No. Never. Stop."
    assert str(errors.NotFound("Job not found", hint="Check the id.")) == "Job not found. Check the id."
    assert str(errors.NotFound("Job not found")) == "Job not found"
