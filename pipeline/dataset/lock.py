"""One build at a time: the lock of a data set, for folders and for object storage.

A folder is locked with ``flock``, which the operating system takes back when its holder dies. Object storage has no
such thing, so a build that wants a data set there puts a claim beside it, looks who else has, and gives way to
anybody: because a list of objects shows every put that came before it, of two builds at least one sees the other. A
claim is a lease: its holder renews it, and one that was not renewed for `Lease.lost_s`, by the server's clock, is
that of a dead build. A holder that cannot renew stops before that time is over, and all who write for it, on other
hosts too, write through an address that knows of the claim (`pipeline.dataset.claim`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pipeline.dataset.claim import PAUSE_S, Claim, Watch, now_s
from pipeline.dataset.storage import Location, ObjectPath
from schemas.errors import UserError


@dataclass(frozen=True)
class Lease:
    """How often a claim is renewed, and after what time without it is lost."""

    renew_s: float = 15.0
    lost_s: float = 60.0

    @property
    def stop_s(self) -> float:
        """Without contact for this long the holder stops: before anybody may take the claim."""
        return 0.75 * self.lost_s


LEASE = Lease()
LOST = signal.SIGUSR2  # not SIGINT, which shells have what they start in the background ignore
FLOCK_PAUSES_S = (0.1, 0.2, 0.4)  # longer than anybody holds the lock who only asks whether it is free


@contextmanager
def locked(root: Location, lease: Lease = LEASE) -> Iterator[Location]:
    """Hold the data set for one build at a time; yields the place to write to, in object storage one under our claim.

    `UserError` if another build holds it, with its host and process, or when the claim is lost.
    """
    with _flock(root) if isinstance(root, Path) else _claim(root, lease) as ours:
        yield ours


def is_locked(root: Location, *, patient: bool = False) -> bool:
    """Whether somebody builds the data set at this moment, here or on another host.

    In object storage the age of a claim is told by our clock, which may not be the server's. Hence who is ``patient``
    looks at a claim of which it says that it is none of a living build for as long as its renewal may take.
    """
    if isinstance(root, ObjectPath):
        claims = {path: path.modified_s() for path in (root / ".lock").glob("*")}
        if any(0 <= time.time() - modified < LEASE.lost_s for modified in claims.values()):
            return True
        end = now_s() + (2 * LEASE.renew_s if patient else 0)
        while claims and now_s() < end:
            time.sleep(PAUSE_S)
            if any(path.modified_s() > modified for path, modified in claims.items()):
                return True
        return False
    try:
        with (root / ".lock").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go at once: a build that starts waits that long
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


@contextmanager
def _flock(root: Path) -> Iterator[Path]:
    root.mkdir(parents=True, exist_ok=True)
    if (root / ".lock").exists() and not (root / ".lock").is_file():
        raise UserError(f"{root / '.lock'}: a folder or a pipe, expected a file; remove it")
    with (root / ".lock").open("a+", encoding="utf-8") as file:
        for pause_s in (*FLOCK_PAUSES_S, None):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if pause_s is None:
                    raise _held(root, _holder(file)) from None
                time.sleep(pause_s)
        file.truncate(0)
        file.write(_ourselves())
        file.flush()
        yield root


@contextmanager
def _claim(root: ObjectPath, lease: Lease) -> Iterator[ObjectPath]:
    own = root / ".lock" / uuid.uuid4().hex
    try:
        try:
            own.write_bytes(_ourselves().encode())
            _give_way(root, own, lease)
        except OSError as error:  # a storage in trouble, too: there is no claim yet that would be patient with it
            raise UserError(f"{root}: cannot be written to: {error}; check address, bucket and credentials") from None
        ours = replace(root, claim=Claim(own.key, lease.lost_s))
        with _renewed(own, lease, ours.watch()):
            yield ours
    finally:
        with suppress(OSError):  # the storage is away: it will run out
            own.unlink(missing_ok=True)


def _give_way(root: ObjectPath, own: ObjectPath, lease: Lease) -> None:
    """Return when no other claim stands; remove those of the dead, raise for one of the living."""
    seen: dict[ObjectPath, float] = {}
    while others := {path: path.modified_s() for path in (root / ".lock").glob("*") if path != own}:
        now = own.modified_s()
        for path, modified in others.items():
            if now - modified > lease.lost_s:
                path.unlink(missing_ok=True)
            elif seen.setdefault(path, modified) != modified:
                raise _held(root, _text(path))
        time.sleep(min(lease.renew_s / 2, 1.0))
        own.write_bytes(_ourselves().encode())  # the server's clock is read off our own claim


def _text(path: ObjectPath) -> str:
    try:
        return path.read_text()
    except OSError:  # given up or renewed in this moment
        return "another process"


@contextmanager
def _renewed(own: ObjectPath, lease: Lease, watch: Watch) -> Iterator[None]:
    """Renew a claim while the block runs; if it is lost the block is interrupted, and ends with `UserError`."""
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(own, lease, ended, watch), daemon=True)
    before = signal.signal(LOST, signal.default_int_handler)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.lost:
            watch.is_fresh()  # says so
        raise
    finally:
        ended.set()
        thread.join()
        signal.signal(LOST, before)


def _renew(own: ObjectPath, lease: Lease, ended: threading.Event, watch: Watch) -> None:
    renewed, pause_s = now_s(), lease.renew_s
    while not ended.wait(pause_s):
        asked, pause_s = now_s(), lease.renew_s
        try:
            if not own.is_file():
                break
            own.write_bytes(_ourselves().encode())
            renewed = asked
        except OSError:  # a storage that comes back in time does no harm
            pause_s = min(PAUSE_S, lease.renew_s)
        if now_s() - renewed > lease.stop_s:
            break
    else:
        return
    watch.lost = True
    signal.pthread_kill(threading.main_thread().ident or 0, LOST)


def _held(root: Location, holder: str) -> UserError:
    return UserError(f"{root} is being built by {holder}; wait for it or build elsewhere")


def _ourselves() -> str:
    return f"{socket.gethostname()} process {os.getpid()}"


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "another process"
