"""The record of a run, the only writer of steps.csv, and the lock on a work directory."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from libs.core.errors import InputError
from libs.core.files import take_lock, write_atomically
from selfcal.step import StepResult, TableRef

__all__ = ["COLUMNS", "Record", "State", "hold_workdir"]

COLUMNS = (
    "step", "status", "fingerprint", "template", "reason", "seconds", "seconds_imaging",
    "seconds_solving", "tables", "products", "metrics", "settings", "finished",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One row of steps.csv.

    Attributes
    ----------
    order : int
        Number of the row; a step that ran after its predecessor has the higher number.
    result : StepResult
        Result without the rows for images.csv and gains.csv.
    """

    order: int
    step: str
    fingerprint: str
    result: StepResult
    seconds: float
    seconds_imaging: float
    seconds_solving: float
    settings: Mapping[str, Any]
    finished: str


class State:
    """Reader and writer of the rows of ``WORKDIR/steps.csv``.

    Only a complete row counts; a line cut short by a kill is dropped.
    """

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.path = workdir / "steps.csv"
        self.running_path = workdir / ".running"
        self.rows = 0
        self._records: dict[str, Record] = {}
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        text = self._whole_lines().decode("utf-8")
        csv.field_size_limit(sys.maxsize)  # metrics of many executions exceed the default 128 kB
        for row in csv.DictReader(io.StringIO(text, newline="")):
            record = _record(self.rows, row)
            self._records[record.step] = record
            self.rows += 1

    def _whole_lines(self) -> bytes:
        """Return the file without a line that a kill cut short, which does not count."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def get(self, step: str) -> Record | None:
        """Return the last record of a step."""
        return self._records.get(step)

    def records(self) -> list[Record]:
        """Return the last record of every step, in order of their rows."""
        return sorted(self._records.values(), key=lambda record: record.order)

    def interrupted(self) -> list[str]:
        """Return the steps in which runs were killed and that have not run since."""
        return self.running_path.read_text().split() if self.running_path.exists() else []

    def begin(self, step: str) -> None:
        """Record that a step runs, so that a kill makes its earlier row invalid."""
        self._note_running([*(name for name in self.interrupted() if name != step), step])

    def _note_running(self, steps: Sequence[str]) -> None:
        if steps:
            write_atomically(self.running_path, "\n".join(steps) + "\n")
        else:
            self.running_path.unlink(missing_ok=True)

    def append(
        self,
        step: str,
        fingerprint: str,
        result: StepResult,
        seconds: Mapping[str, float],
        settings: Mapping[str, Any],
    ) -> Record:
        """Append a finished step's row, synced to disk."""
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(
            self.rows, step, fingerprint, result, round(seconds["total"], 3),
            round(seconds["imaging"], 3), round(seconds["solving"], 3), dict(settings), finished,
        )  # fmt: skip
        whole = len(self._whole_lines())
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            stream.truncate(whole)
            writer = csv.DictWriter(stream, COLUMNS)
            if not whole:
                writer.writeheader()
            writer.writerow(_row(record))
            stream.flush()
            os.fsync(stream.fileno())
        self._records[step] = record
        self.rows += 1
        self._note_running([name for name in self.interrupted() if name != step])
        return record

    def forget(self) -> None:
        """Drop every record (``--restart``)."""
        self.path.unlink(missing_ok=True)
        self._records, self.rows = {}, 0


def _row(record: Record) -> dict[str, Any]:
    result = record.result
    return {
        "step": record.step,
        "status": result.status,
        "fingerprint": record.fingerprint,
        "template": result.template,
        "reason": " ".join(result.reason.split()),
        "seconds": record.seconds,
        "seconds_imaging": record.seconds_imaging,
        "seconds_solving": record.seconds_solving,
        "tables": json.dumps([asdict(table) for table in result.tables]),
        "products": json.dumps(dict(result.products)),
        "metrics": json.dumps(dict(result.metrics)),
        "settings": json.dumps(dict(record.settings)),
        "finished": record.finished,
    }


def _record(order: int, row: Mapping[str, str]) -> Record:
    tables = tuple(
        TableRef(
            **{**table, "spwmap": tuple(table["spwmap"]), "fields": tuple(table.get("fields", ()))}
        )
        for table in json.loads(row["tables"])
    )
    result = StepResult(
        status=row["status"],  # type: ignore[arg-type]
        reason=row["reason"],
        tables=tables,
        products=json.loads(row["products"]),
        metrics=json.loads(row["metrics"]),
        template=row["template"],
    )
    return Record(
        order, row["step"], row["fingerprint"], result, float(row["seconds"]),
        float(row["seconds_imaging"]), float(row["seconds_solving"]),
        json.loads(row["settings"]), row["finished"],
    )  # fmt: skip


@contextmanager
def hold_workdir(workdir: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a work directory for the duration of the context; create it when missing.

    Parameters
    ----------
    workdir : Path
    wait_s : float
        Longest wait for another holder, s.

    Raises
    ------
    InputError
        Another run holds it, or it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stream = (workdir / ".lock").open("a+")
    except OSError as error:
        raise InputError(
            f"the work directory {workdir} cannot be written ({error.strerror})",
            "choose another with --workdir",
        ) from error
    with stream:
        if not take_lock(stream.fileno(), workdir, wait_s):
            stream.seek(0)
            holder = stream.read().strip() or "another run"
            raise InputError(
                f"the work directory {workdir} is in use by {holder}",
                "wait for it or choose another with --workdir",
            )
        _note_holder(stream.fileno(), workdir)
        yield


def _note_holder(lock: int, workdir: Path) -> None:
    """Write into the lock who holds it; nothing is left in a buffer that a full disk refuses."""
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n"
    try:
        os.ftruncate(lock, 0)
        os.write(lock, holder.encode())
    except OSError as error:
        raise InputError(
            f"the work directory {workdir} cannot be written ({error.strerror})",
            "free some space, or choose another with --workdir",
        ) from error


def merge_rows(groups: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Return CSV text of all rows; columns in order of first appearance."""
    rows = [row for group in groups for row in group]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
