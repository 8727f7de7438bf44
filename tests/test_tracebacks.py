"""A failure whose traceback has no line does not end the run of the tests."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType

import pytest
from support.tracebacks import give_lines


def frame_without_line() -> tuple[FrameType, int]:
    """A frame, and the place of an instruction in it that belongs to no line."""
    with pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
    frame = sys._getframe()
    for start, _, line in frame.f_code.co_lines():
        if line is None:
            return frame, start
    return pytest.skip("this Python gives every instruction a line")


def test_each_entry_gets_a_line() -> None:
    """Also in the errors that this one came from, alone or in a group."""
    frame, place = frame_without_line()
    errors = [ValueError(), TypeError(), KeyError()]
    for error in errors:
        error.__traceback__ = TracebackType(None, frame, place, -1)
        assert error.__traceback__.tb_lineno is None
    whole = ExceptionGroup("several", errors[:2])
    whole.__context__ = errors[2]
    give_lines(whole)
    for error in errors:
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_lineno == frame.f_code.co_firstlineno
        assert pytest.ExceptionInfo.from_exception(error).getrepr()


def test_lines_that_are_there_stay() -> None:
    """The usual traceback is as it was."""

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError) as caught:
        fail()
    before = [entry.lineno for entry in pytest.ExceptionInfo.from_exception(caught.value).traceback]
    give_lines(caught.value)
    assert [entry.lineno for entry in pytest.ExceptionInfo.from_exception(caught.value).traceback] == before
