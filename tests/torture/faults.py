"""Each fault, tried so many times on real processes. A function is given the ground and a Random, and returns a Row."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from support.preload.sitecustomize import HOST

from torture.processes import LOOK_S, PATIENCE_S, Life, Phase, Server
from torture.trial import Ground, Row, Trial

_LONGEST_S: dict[Phase, float] = {"replay": 0.8, "asking": 0.5, "finishing": 0.2}
"""Most seconds between the begin of a phase and a fault in it; the start has its own length."""
Aims = Iterable[Sequence[Phase]]
"""For each run directory the phases at which the blows are aimed, one after another."""

MANY: tuple[Phase, ...] = ("finishing", "finishing", "replay", "replay", "finishing")
"""The last aims of a run that gets many blows. The first lets it come to its end: those after it strike a run that has
nothing left to ask.
"""


def drawn(rng: random.Random, times: int, *, a_run: int, last: Sequence[Phase] = ("finishing",)) -> Aims:
    """So many aims in all, most of them at a run that asks, the last ones of each run as given."""
    while times > 0:
        early: list[Phase] = rng.choices(("start", "replay", "asking"), (1, 2, 4), k=a_run - len(last))
        aims = [*early, *last][:times]
        yield aims
        times -= len(aims)


def strike(ground: Ground, life: Life, aim: Phase, rng: random.Random, *, blow: Callable[[], None], row: Row) -> Phase:
    """Delivers the blow at an instant drawn over the phase it is aimed at; says in which phase it fell."""
    life.wait_for(aim)
    life.live_for(rng.uniform(0.0, _LONGEST_S.get(aim, ground.start_s)))
    phase = life.phase()
    if phase == "asking":
        row.in_flight.append(life.in_flight())
    blow()
    row.note(phase)
    return phase


def kills(ground: Ground, rng: random.Random, runs: Aims) -> Row:
    """kill -9, each time followed by the same command."""
    row = Row("kill -9")
    with ground.server("kills") as server:
        for trial, aim in _trials(ground, server, row, runs):
            life = trial.launch("--quiet")
            strike(ground, life, aim, rng, blow=lambda life=life: life.send(signal.SIGKILL), row=row)
            life.end()
            trial.check()
    return row


def signals(ground: Ground, rng: random.Random, runs: Aims, numbers: tuple[signal.Signals, ...]) -> Row:
    """One signal after the other, the second up to 0.3 s later; then the same command."""
    row = Row(" then ".join(number.name for number in numbers))
    expected = 130 if numbers[-1] == signal.SIGINT else 143
    with ground.server(row.fault) as server:
        for trial, aim in _trials(ground, server, row, runs):
            life = trial.launch("--json")
            phase = strike(ground, life, aim, rng, blow=lambda life=life: life.send(numbers[0]), row=row)
            for number in numbers[1:]:
                life.live_for(rng.uniform(0.0, 0.3))
                phase = life.phase()
                life.send(number)
            _check_ending(row, life, phase, expected)
            trial.check(lossless=len(numbers) == 1 and phase == "asking")
    return row


def hang_ups(ground: Ground, rng: random.Random, runs: Aims) -> Row:
    """The terminal on which the progress is shown is closed; then the same command."""
    row = Row("terminal closed")
    with ground.server("hang-ups") as server:
        for trial, aim in _trials(ground, server, row, runs):
            life = trial.launch(terminal=True, TERM="xterm")
            phase = strike(ground, life, aim, rng, blow=life.hang_up, row=row)
            _check_ending(row, life, phase, 143)
            trial.check(lossless=phase == "asking")
    return row


def _trials(ground: Ground, server: Server, row: Row, runs: Aims) -> Iterator[tuple[Trial, Phase]]:
    """A directory for each list of aims; after its last blow the run is finished and compared."""
    for number, aims in enumerate(runs):
        trial = Trial(ground, server, row, f"{row.fault.replace(' ', '-')}-{number}")
        for aim in aims:
            yield trial, aim
        trial.finish()


def _check_ending(row: Row, life: Life, phase: Phase, expected: int) -> None:
    """The documented code. Before the run has begun and after it has ended the system's own handling gives the same to a
    shell (128 and the number); a run that was through already may have ended with 0.
    """
    code = life.end()
    by_system = {expected, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}
    allowed = {"start": by_system, "finishing": {*by_system, 0}}
    row.expect(
        phase == "ended" or code in allowed.get(phase, {expected}), f"{phase}: ended with {code}: {life.told()[-2000:]}"
    )
    row.expect("Traceback" not in life.told(), f"{phase}: no traceback: {life.told()[-2000:]}")


def clock(ground: Ground, rng: random.Random, runs: int) -> Row:
    """The time of day jumps by up to a day, forward and backward, every tenth of a second."""
    row = Row("clock jumps")
    with ground.server("clock") as server:
        for number in range(runs):
            trial = Trial(ground, server, row, f"clock-{number}")
            told = ground.room(f"clock-told-{number}") / "off"
            told.write_text("0")
            life = trial.launch(TORTURE_CLOCK=str(told))
            life.wait_for("replay")
            while life.phase() != "ended":
                row.note(life.phase())
                _put(told, str(rng.randint(-86_400, 86_400)))
                life.live_for(0.1)
            row.expect(life.end() == 0, f"the run ends with 0: {life.told()[-500:]}")
            trial.compare()
    return row


def restarts(ground: Ground, rng: random.Random, times: int) -> Row:
    """The server is killed and comes again at the same port, up to two seconds later."""
    row = Row("server killed, started again")
    with ground.server("restarts") as server:

        def blow() -> None:
            server.kill()
            time.sleep(rng.uniform(0.0, 2.0))
            server.start()

        _beside(ground, server, row, rng, times, blow=blow)
    return row


def pauses(ground: Ground, rng: random.Random, times: int) -> Row:
    """The server stands still (SIGSTOP) for up to five seconds, its connections open."""
    row = Row("server stands still")
    with ground.server("pauses") as server:

        def blow() -> None:
            server.send(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 5.0))
            server.send(signal.SIGCONT)

        _beside(ground, server, row, rng, times, blow=blow)
    return row


def names(ground: Ground, rng: random.Random, times: int) -> Row:
    """The host's name is not known for a while, its connections are broken: by a new start of the server, 11 s later,
    when no answer of the resolver is remembered any more. The name comes back some time after it has been asked for.
    """
    row = Row("name not resolvable")
    gone = ground.room("names-told") / "gone"
    failed = gone.with_name("gone.failed")
    with ground.server("names") as server:

        def blow() -> None:
            gone.touch()
            server.kill()
            time.sleep(11)
            server.start()
            until = time.monotonic() + PATIENCE_S
            while not failed.exists() and time.monotonic() < until:
                time.sleep(LOOK_S)
            row.expect(failed.exists(), "the name was asked for while it was not known")
            time.sleep(rng.uniform(0.0, 3.0))
            gone.unlink()
            failed.unlink(missing_ok=True)

        url = f"http://{HOST}:{server.port}/v1"
        _beside(ground, server, row, rng, times, blow=blow, url=url, TORTURE_NAME=str(gone))
    return row


def _beside(
    ground: Ground, server: Server, row: Row, rng: random.Random, times: int, *, blow: Callable[[], None], **more: str
) -> None:
    """Blows at what is beside a run, three a run, while it asks; it goes on by itself."""
    while row.tried < times:
        trial = Trial(ground, server, row, f"{row.fault.replace(' ', '-').replace(',', '')}-{row.runs}")
        since = server.noted()
        life = trial.launch(**more)
        for at in sorted(rng.sample(range(9 * ground.requests // 10), min(3, times - row.tried))):
            while server.asked(since).total() < at and life.phase() != "ended":
                life.live_for(0.02)
            strike(ground, life, "asking", rng, blow=blow, row=row)
        row.expect(life.end() == 0, f"the run ends with 0: {life.told()[-500:]}")
        trial.compare()


def intruders(ground: Ground, rng: random.Random, times: int) -> Row:
    """A second process on the directory: the same command, or one that would take it over, set it aside, derive anew.
    Meanwhile the server stands still, so that the first is there however long the second takes to start.
    """
    row = Row("second run on the directory")
    with ground.server("intruders") as server:
        while row.tried < times:
            trial = Trial(ground, server, row, f"shared-{row.runs}")
            life = trial.launch()
            for more in rng.sample(((), ("--adopt",), ("--fresh",), ("--offline",)), k=min(2, times - row.tried)):
                strike(ground, life, "asking", rng, blow=lambda: server.send(signal.SIGSTOP), row=row)
                second = trial.launch(*more)
                refused = second.end() == 4 and "another process" in second.told()
                row.expect(refused or life.phase() == "ended", f"{more}: the second is refused: {second.told()[-300:]}")
                server.send(signal.SIGCONT)
            row.expect(life.end() == 0, f"the first is undisturbed: {life.told()[-500:]}")
            trial.compare()
    return row


def _put(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
