"""Products by the names of observatories' pipelines, in ``products/``.

Images are hard links, which take no space and stay what they are when a step runs again. Gain
tables, which are small, are copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import InputError
from libs.gains.factor_tables import write_factor_tables
from libs.ms.tables import open_table, settle_rows
from selfcal.state import Record
from selfcal.step import StepResult, TableRef
from steps.copy_names import field_word, windows_word
from steps.record.collect import FinishedRun, interval_name, safe_name
from steps.record.start_tables import START, start_table, write_start_tables
from steps.standard import WHOLE_EXECUTION

__all__ = [
    "FOLDER",
    "ProductNames",
    "constants_beneath",
    "copy_gain_table",
    "link_products",
    "table_kind",
    "table_names",
]

FOLDER = "products"
WINDOW_KEY = "window_"
"""Beginning of the products of images of single windows: ``window_16_initial``."""

CONSTANTS = "#constants"
"""End of what stands for the path of constants that are a factor of another table."""

_KINDS = ("image", "residual", "model", "psf")
_ITERATIONS = {"dirty": 0, "initial": 1, "final": 3}


@dataclass(frozen=True)
class ProductNames:
    """Names of one target's products.

    Attributes
    ----------
    prefix, stage, field : str
    windows : tuple of int
        Numbers of its spectral windows, ascending.
    """

    prefix: str
    stage: str
    field: str
    windows: tuple[int, ...]

    @classmethod
    def of(cls, run: FinishedRun) -> ProductNames:
        """Return the names of a run's products."""
        numbers = tuple(sorted(set(run.window_numbers().values())))
        return cls(run.prefix, run.stage, field_word(run.startup.field), numbers)

    def image(self, iteration: int, trial: str = "", window: int | None = None) -> str:
        """Return the name of an image without its kind: ``...cont.I.iter1``.

        Parameters
        ----------
        iteration : int
            0 dirty, 1 initial, 2 within the trial of an interval, 3 final.
        trial : str
            ``solint2_prior`` or ``solint2_post``; empty outside of a trial.
        window : int, optional
            The only spectral window of the image.
        """
        numbers = self.windows if window is None else (window,)
        windows = f"spw{windows_word(numbers)}"
        parts = [self.prefix, f"s{self.stage}", f"{self.field}_sci", windows, "cont"]
        return ".".join([*parts, *filter(None, [trial]), "I", f"iter{iteration}"])

    def table(self, ms: str, interval: str, calmode: str) -> str:
        """Return the name of a gain table."""
        kind = "ap" if "a" in calmode else "p"
        return f"{ms}.hif_selfcal.{self.stage}.{interval}.{kind}.tbl"


def link_products(run: FinishedRun, names: ProductNames) -> dict[str, str]:
    """Make ``products/`` anew: images and gain tables under their names.

    Returns
    -------
    dict of str to str
        Name by path of the gain tables that hold, both relative to the work directory.
    """
    part = run.workdir / f".{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for source, name in _images(run, names):
        path = run.workdir / source
        if path.exists():
            link_file(path, part / name)
    tables = table_names(run, names)
    for copy in write_start_tables(run):
        tables[start_table(copy)] = names.table(copy.name, START, "ap")
    for source, name in tables.items():
        if _beneath(source) in tables:
            _copy_factors(run, source, part / tables[_beneath(source)], part / name)
        elif not source.endswith(CONSTANTS):
            copy_gain_table(run.workdir / source, part / name)
    final = run.workdir / FOLDER
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return {source: f"{FOLDER}/{name}" for source, name in tables.items()}


def _copy_factors(run: FinishedRun, source: str, constants: Path, common: Path) -> None:
    """Write the factors of a table as tables that are whole without their locks."""
    ms = run.workdir / "data" / _copy_of(run, source)
    made = [path.with_name(f".{path.name}.made") for path in (constants, common)]
    write_factor_tables(run.workdir / source, ms, *made)
    for path, target in zip(made, (constants, common), strict=True):
        copy_gain_table(path, target)
        shutil.rmtree(path)


def constants_beneath(ref: TableRef) -> str:
    """Return what stands for the path of the constants of a table that has two factors."""
    return _beneath(ref.path)


def _beneath(source: str) -> str:
    return f"{source}{CONSTANTS}"


def _copy_of(run: FinishedRun, source: str) -> str:
    """Return the name of the working copy of a table that holds."""
    return next(ref.ms for ref in run.records[-1].result.tables if ref.path == source)


def has_two_factors(ref: TableRef, result: StepResult | None) -> bool:
    """Whether a table's solutions are constants beneath a common phase."""
    options = result.metrics.get("solve_options", {}) if result else {}
    return bool(options.get(ref.ms, {}).get("solution") == "constants+phase")


def _images(run: FinishedRun, names: ProductNames) -> Iterator[tuple[str, str]]:
    """Yield each image with its name in ``products/``."""
    first, last = run.first_image, run.last_image
    if first is not None:
        if "dirty" in first.result.products:
            yield first.result.products["dirty"], f"{names.image(0)}.image.fits"
        yield from _kinds(first.result.products, names.image(1))
    if last is not None:
        yield from _kinds(last.result.products, names.image(3))
    best = first
    for number, record in enumerate(run.rounds, start=1):
        products = record.result.products
        before = best.result.products.get("image", "") if best else ""
        prior = products.get("start_image", before)
        if prior:
            yield prior, f"{names.image(2, f'solint{number}_prior')}.image.fits"
        yield from _kinds(products, names.image(2, f"solint{number}_post"))
        if record.result.status == "done":
            best = record
    for record in run.records:
        yield from _window_images(record, names)


def _kinds(products: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    for kind in _KINDS:
        if kind in products:
            yield products[kind], f"{name}.{kind}.fits"


def _window_images(record: Record, names: ProductNames) -> Iterator[tuple[str, str]]:
    """Yield the images of single windows that a step recorded."""
    for key, path in record.result.products.items():
        if not key.startswith(WINDOW_KEY):
            continue
        number, _, state = key.removeprefix(WINDOW_KEY).partition("_")
        name = names.image(_ITERATIONS[state], window=int(number))
        yield path, f"{name}.image.fits"


def table_names(run: FinishedRun, names: ProductNames) -> dict[str, str]:
    """Return the name of each gain table that holds at the end of a run, by its path.

    Constants beneath a common phase have a table of their own, by `constants_beneath`.
    """
    solved = {record.step: record.result for record in run.rounds}
    found: dict[str, str] = {}
    for ref in run.records[-1].result.tables if run.records else ():
        result = solved.get(ref.round)
        kind = table_kind(ref, result)
        if has_two_factors(ref, result):
            constants = names.table(ref.ms, WHOLE_EXECUTION, kind[1])
            found[constants_beneath(ref)] = _not_in(found, constants)
        found[ref.path] = _not_in(found, names.table(ref.ms, *kind))
    return found


def _not_in(found: Mapping[str, str], name: str) -> str:
    """Return a name of a table that is not taken: two rounds may have had one interval."""
    plain, number = name.removesuffix(".tbl"), 2
    while name in found.values():
        name, number = f"{plain}_{number}.tbl", number + 1
    return name


def table_kind(ref: TableRef, result: StepResult | None) -> tuple[str, str]:
    """Return the solution interval and the mode of a table's solutions, for its name."""
    if result is None:  # of no round of this run
        return safe_name(ref.round or "start"), "ap"
    metrics = dict(result.metrics)
    own = metrics.get("solve_options", {}).get(ref.ms, {})
    metrics |= {"solint_s": own.get("solint", metrics.get("solint_s"))}
    metrics |= {"combine": own.get("combine", metrics.get("combine", ()))}
    return interval_name(metrics) or ref.round, str(metrics.get("calmode", "p"))


def copy_gain_table(source: Path, target: Path) -> None:
    """Copy a gain table so that it is whole without its lock.

    The lock changes whenever a table is read, and it, not the table, may hold the number of rows.
    """
    with open_table(source) as opened:
        opened.copy(str(target), deep=True, valuecopy=True).close()
    folders = [path.parent for path in source.rglob("table.dat")]
    for folder in folders:
        settle_rows(target / folder.relative_to(source))
    for lock in target.rglob("table.lock"):
        lock.unlink()
    for folder in folders:
        with open_table(folder) as one, open_table(target / folder.relative_to(source)) as other:
            if one.nrows() != other.nrows():
                raise InputError(
                    f"{folder} could not be copied: {one.nrows()} rows became {other.nrows()}",
                    "run the round that made it again",
                )


def link_file(source: Path, target: Path) -> None:
    """Link a file; a file system without hard links gets a copy."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # no hard links there, or too many of one file
        shutil.copyfile(source, target)
