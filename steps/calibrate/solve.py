"""First-generation calibration: delays, bandpass, gains, and the flux scale between calibrators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import InputError
from libs.flagging.rflag import RflagOptions
from libs.gains.bandpass import finish_bandpass
from libs.gains.caltable import read_caltable
from libs.gains.flux_transfer import TransferredFlux, mean_flux, transfer_flux
from libs.gains.native import NativeSolver
from libs.gains.normal_equations import accumulate
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions, Solver
from libs.h5parm.clock import write_clock_h5parm
from libs.heldout.choose import choose_solve
from libs.ms import flag_versions
from libs.ms.field_directions import j2000_directions
from libs.ms.subtables import Subtables
from selfcal.options import unknown_name
from selfcal.step import Step, StepResult
from steps.calibrate.flag_calibrators import flag_some_fields
from steps.calibrate.roles import Roles
from steps.calibrate.session_data import (
    CALIBRATORS_FLAGGED,
    Tuning,
    restore_flags,
    roles_of,
    table_path,
    tunings_of,
    write_record,
)
from steps.context import Context

__all__ = ["SolveSession"]

SOLVED_FLAGS = "solved"
_LEAST_CHANNELS = 8  # of a window, for a delay


class SolveSession(Step):
    """Solve for delays, bandpass and gains; carry the flux scale over; flag residuals; again."""

    needs = ("combine", "identify", "flag_calibrators", "set_model")
    uses = ("refant", "solver", "interval", "delays", "passes", "minblperant", "minsnr")

    def changes_data(self, context: Context) -> bool:
        """Return True: it flags residuals of the calibrators."""
        return True

    def run(self, context: Context) -> StepResult:
        """Write the tables of each tuning and the fluxes of the phase calibrators."""
        roles = roles_of(context)
        (context.workdir / "tables").mkdir(exist_ok=True)
        records, fluxes, products, said = [], [], {}, []
        for tuning in tunings_of(context):
            solved = _Solver(context, tuning, roles).run()
            records.append(asdict(solved))
            fluxes += solved.fluxes
            for kind, path in solved.tables.items():
                products[f"{kind}{tuning.suffix}"] = path
            said.append(f"{tuning.name} {solved.summary}".strip())
        write_record(context.workdir / "tables" / "calibration.json", records)
        metrics: dict[str, Any] = {"refant": records[0]["refant"]}
        for row in fluxes:
            if row["spw"] == -1:
                metrics[f"flux_jy.{row['field']}{row['tuning']}"] = row["flux_jy"]
        return StepResult(
            reason="; ".join(said),
            products={"calibration": "tables/calibration.json", **products},
            metrics=metrics,
        )


@dataclass(frozen=True)
class TuningSolution:
    """The calibration of a tuning.

    Attributes
    ----------
    tuning : str
    refant : list of str
    tables : dict of str to str
        Tables by kind, relative to the work directory.
    spwmaps : dict of str to list of int
    fluxes : list of dict
        Of the phase calibrators, by window, and -1 for all windows together.
    summary : str
    """

    tuning: str
    refant: list[str]
    tables: dict[str, str]
    spwmaps: dict[str, list[int]]
    fluxes: list[dict[str, Any]]
    summary: str


class _Solver:
    """The solves of one tuning."""

    def __init__(self, context: Context, tuning: Tuning, roles: Roles) -> None:
        self.context, self.tuning, self.roles = context, tuning, roles
        self.settings = context.settings
        self.ms = context.workdir / tuning.ms
        self.flux_ids = roles.ids[roles.flux_calibrator]
        self.all_ids = roles.field_ids(*roles.calibrators)
        self.plain = SolveOptions(
            minblperant=self.settings["minblperant"], minsnr=self.settings["minsnr"],
            fields=self.flux_ids,
        )  # fmt: skip
        channels = [window.channels for window in Subtables(self.ms).windows]
        self.solver: Solver = context.tools.solver
        self.with_delays = self._wants_delays(channels)
        self.interval = ""

    def _wants_delays(self, channels: Sequence[int]) -> bool:
        wanted = self.settings["delays"]
        if wanted == "yes" and min(channels) < 2:
            raise InputError(
                "delays are asked for, and a spectral window has a single channel",
                "set delays to auto or no",
            )
        return bool(wanted == "yes" or (wanted == "auto" and min(channels) >= _LEAST_CHANNELS))

    def run(self) -> TuningSolution:
        """Solve in passes; each flags what stands out of the residuals for the next."""
        restore_flags(self.context, self.tuning, CALIBRATORS_FLAGGED)
        refant = self._refant()
        self.plain = replace(self.plain, refant=tuple(refant))
        passes = self.settings["passes"]
        for number in range(1, passes + 1):
            tables = self._solve_once()
            fluxes = self._scale(tables["G1"])
            if number < passes:
                self._flag_residuals(tables, number)
        flag_versions.save_version(self.ms, SOLVED_FLAGS, "calibrators after the last pass")
        return self._record(refant, tables, fluxes)

    def _tell(self, text: str) -> None:
        self.context.progress.activity(f"{self.tuning.name} {text}".strip())

    def _solve(
        self, kind: str, options: SolveOptions, prior: Sequence[AppliedTable], field: str = ""
    ) -> AppliedTable:
        self._tell(kind)
        path = table_path(self.context, self.tuning, field or self.roles.flux_calibrator, kind)
        with self.context.clock.time("solving"):
            result = self.solver.solve(self.ms, path, options, prior)
        return result.applied

    # -- one pass ---------------------------------------------------------------------------------

    def _solve_once(self) -> dict[str, AppliedTable]:
        self.solver = self.context.tools.solver
        if isinstance(self.solver, NativeSolver):  # the flags stay until the pass is over
            fine = replace(self.plain, solint=PER_INTEGRATION, fields=self.all_ids)
            self.solver = self.solver.reading_once(self.ms, fine)
        scans = frozenset({"scan"})
        tables: dict[str, AppliedTable] = {}
        rough: list[AppliedTable] = []
        if self.with_delays:
            # phases averaged over a window need its delays taken out
            rough = [self._solve("K_scan", replace(self.plain, solution="delay"), ())]
        interval = self._choose_interval(rough)
        tables["G0"] = self._solve("G0", replace(self.plain, solint=interval), rough)
        prior = [tables["G0"]]
        if self.with_delays:
            delay = replace(self.plain, solution="delay", combine=scans, solint=PER_SCAN)
            tables["K0"] = self._solve("K0", delay, prior)
            prior.append(tables["K0"])
        band = replace(
            self.plain, calmode="ap", combine=scans, solint=PER_SCAN, channels_per_block=1
        )
        tables["B0"] = self._solve("B0", band, prior)
        finish_bandpass(tables["B0"].path)
        gains = replace(self.plain, calmode="ap", fields=self.all_ids)
        prior = [tables[kind] for kind in ("K0", "B0") if kind in tables]
        tables["G1"] = self._solve("G1", gains, prior)
        return tables

    def _choose_interval(self, prior: Sequence[AppliedTable]) -> SolutionInterval:
        wanted = self.settings["interval"]
        if wanted != "auto":
            return SolutionInterval.parse(wanted)
        self._tell("interval of G0 by held-out data")
        sums = accumulate(
            self.ms, replace(self.plain, solint=PER_INTEGRATION), prior, corr_dep_flags=True
        )
        names = self.plain.refant
        refants = [sums.antenna.index(name) for name in names if name in sums.antenna]
        choice = choose_solve(
            sums, refants=refants, minblperant=self.plain.minblperant, solution="gain"
        )
        best = choice.best.interval if choice.best else PER_SCAN
        length = f"{best.seconds:.4g} s" if np.isfinite(best.seconds) else "scan"
        self.interval = f"G0 every {length} ({choice.reason})"
        return best

    def _scale(self, table: AppliedTable) -> list[TransferredFlux]:
        others = {
            name: self.roles.ids[name] for name in self.roles.phase_calibrators
            if name != self.roles.flux_calibrator
        }  # fmt: skip
        solved = read_caltable(table.path)
        for name in self.roles.calibrators:
            parts = [part.of_fields(self.roles.ids[name]) for part in solved.spws.values()]
            if all(part is None or part.flag.all() for part in parts):
                raise InputError(
                    f"the calibrator {name} has no solution above an SNR of {self.plain.minsnr:g}",
                    "look at its data and flags, or name another calibrator",
                )
        scaled = table_path(self.context, self.tuning, self.roles.flux_calibrator, "G1flux")
        return transfer_flux(table.path, scaled, self.flux_ids, others)

    def _flag_residuals(self, tables: dict[str, AppliedTable], number: int) -> None:
        """Flag what stands out of the corrected calibrators, from the flags of this pass on."""
        version = f"pass_{number}"
        flag_versions.save_version(self.ms, version, "before residuals were flagged")
        used = [tables[kind] for kind in ("K0", "B0", "G1") if kind in tables]
        for name in self.roles.calibrators:
            ids = self.roles.ids[name]
            own = [*used[:-1], replace(used[-1], fields=ids, interp="nearest")]
            self.context.tools.solver.apply(self.ms, own, fields=ids, flag_unsolved=False)
        flag_some_fields(
            self.context, self.ms, self.all_ids, version,
            RflagOptions(column="RESIDUAL", methods=("rflag", "clip"), clip_sigma=6.0),
        )  # fmt: skip

    # -- reference antenna ------------------------------------------------------------------------

    def _refant(self) -> list[str]:
        """Antennas in order of preference, by the calibrators' solutions; those named first."""
        antenna = Subtables(self.ms).antenna_names
        wanted = self.settings["refant"]
        if wanted != "auto":
            for name in wanted:
                if name not in antenna:
                    raise unknown_name("antenna in refant", name, sorted(antenna))
        self._tell("reference antenna")
        table = self.context.workdir / "tables" / f"refant{self.tuning.suffix}"
        options = replace(
            self.plain, fields=self.all_ids,
            solution="delay" if self.with_delays else "gain",
        )  # fmt: skip
        NativeSolver(corr_dep_flags=True).solve(self.ms, table, options)
        good = np.mean(
            [(~part.flag).mean(axis=(0, 1, 3)) for part in read_caltable(table).spws.values()],
            axis=0,
        )
        if wanted != "auto":
            lost = [name for name in wanted if not good[antenna.index(name)]]
            if len(lost) == len(wanted):
                raise InputError(
                    f"the reference antenna {lost[0]} has no data on the calibrators",
                    "name another one, or set refant to auto",
                )
            return list(wanted)
        place = Subtables(self.ms).position_m
        middle = np.median(place[good > 0], axis=0)
        far = np.linalg.norm(place - middle, axis=1)
        order = sorted(range(len(antenna)), key=lambda i: (-round(float(good[i]), 2), far[i]))
        return [antenna[i] for i in order if good[i]]

    # -- record -----------------------------------------------------------------------------------

    def _record(
        self, refant: list[str], tables: dict[str, AppliedTable], fluxes: list[TransferredFlux]
    ) -> TuningSolution:
        context = self.context
        paths = {kind: context.relative(item.path) for kind, item in tables.items()}
        scaled = table_path(context, self.tuning, self.roles.flux_calibrator, "G1flux")
        paths["G1flux"] = context.relative(scaled)
        if "K0" in tables and len(read_caltable(tables["K0"].path).spws) == 1:
            clock = table_path(context, self.tuning, self.roles.flux_calibrator, "K0.h5")
            place = j2000_directions(self.ms)[self.flux_ids[0]]
            write_clock_h5parm(tables["K0"].path, clock, place)
            paths["K0_h5parm"] = context.relative(clock)
        rows = [asdict(one) for one in fluxes]
        for name in dict.fromkeys(one.field for one in fluxes):
            rows.append(asdict(mean_flux([one for one in fluxes if one.field == name])))
        for row in rows:
            row["tuning"] = self.tuning.name
        means = [row for row in rows if row["spw"] == -1]
        said = [f"{r['field']} {r['flux_jy']:.4g} +- {r['error_jy']:.2g} Jy" for r in means]
        return TuningSolution(
            self.tuning.name, refant[:5], paths,
            {kind: list(item.spwmap) for kind, item in tables.items()}, rows,
            "; ".join([*said, f"refant {refant[0]}", *filter(None, [self.interval])]),
        )  # fmt: skip


def table_of(record: dict[str, Any], kind: str, workdir: Path) -> AppliedTable | None:
    """Return a table of a recorded calibration; None when it was not solved for."""
    if kind not in record["tables"]:
        return None
    own = record["spwmaps"].get("G1" if kind == "G1flux" else kind, [])
    return AppliedTable(workdir / record["tables"][kind], tuple(own))
