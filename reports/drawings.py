"""Every figure of a run, drawn from its records into ``plots/``."""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from matplotlib.figure import Figure

from libs.core.errors import SelfcalError
from libs.gains.gain_solutions import GainSolutions
from reports.closure_figure import closure_figure, read_closures
from reports.gain_figures import amplitude_figures, phase_figures, snr_histogram
from reports.held_out_figure import held_out_figure
from reports.image_figures import (
    Panel,
    compare_images,
    compare_residuals,
    image_history,
    round_images,
    zoom_box,
)
from reports.image_panels import ColourScale, shared_scale
from reports.image_view import Box
from reports.records import Run, StepRow, as_number
from reports.run_panels import UNTOUCHED, comparable_steps, compared_panels, step_panel
from reports.solved_data import table_solutions
from reports.style import save_figure
from reports.summary import build_summary
from reports.summary_figure import summary_figure
from reports.visibility_data import VisibilityDensity
from reports.visibility_figures import visibility_figure

__all__ = ["Drawing", "draw_ahead", "draw_all", "draw_round"]

logger = logging.getLogger(__name__)
_FAILURES = (SelfcalError, OSError, ValueError, RuntimeError)


SHOWN = ("closure", "comparison")
"""Kinds of figures that pages show: the run's own, and that of several targets."""


@dataclass(frozen=True)
class Drawing:
    """A figure on disk.

    Attributes
    ----------
    path : Path
        File (PNG) in ``plots/``.
    title, alt : str
        Caption, and a description for readers who cannot see the figure.
    kind : str
        Kind of figure: comparison, residuals, history, statistics, visibilities, images, closure,
        held_out, phase, amplitude, snr.
    step : str
        Step to which it belongs; empty for a figure of the whole run.
    """

    path: Path
    title: str
    alt: str
    kind: str
    step: str = ""


@dataclass(frozen=True)
class _Plan:
    """A figure to be drawn; ``draw`` may return nothing when there is nothing to show.

    ``inputs`` covers all its contents, for figures that are drawn while later steps run; ``alone``
    is True where no later step can change them.
    """

    name: str
    title: str
    alt: str
    kind: str
    step: str
    draw: Callable[[], Figure | list[Figure] | None]
    inputs: Callable[[], object] | None = None
    alone: bool = False

    @cached_property
    def token(self) -> str:
        """Return a text that identifies this figure and its contents."""
        if self.inputs is None:
            return self.name
        try:
            return f"{self.name} {(self.title, self.alt, self.inputs())!r}"
        except _FAILURES:  # drawing it reports the cause
            return f"{self.name} unknown"


def draw_all(
    run: Run,
    progress: Callable[[str], None] | None = None,
    drawn: Mapping[str, Sequence[Drawing]] | None = None,
    workers: int = 1,
    densities: Sequence[VisibilityDensity] = (),
    *,
    plots: bool = True,
) -> tuple[list[Drawing], list[str]]:
    """Draw every figure that the records allow.

    Parameters
    ----------
    run : Run
    progress : callable or None
        Function that receives what is being drawn.
    drawn : mapping of str to sequence of Drawing, optional
        Finished figures by token; see `draw_round` and `draw_ahead`.
    workers : int
        Number of processes; more than one is possible only where this process may be forked.
    densities : sequence of VisibilityDensity
        Visibilities before and after; empty for none.
    plots : bool
        False: no figures but those that pages show.

    Returns
    -------
    drawings : list of Drawing
    problems : list of str
        Figures that could not be drawn, with the cause, one line each. A report with a gap is
        better than no report.
    """
    drawings: list[Drawing] = []
    problems: list[str] = []
    known = drawn or {}
    plans = [*_plans(run), *_visibility_plans(densities)]
    plans = [plan for plan in plans if plots or plan.kind in SHOWN]
    made = _drawn_by([plan for plan in plans if plan.token not in known], run, progress, workers)
    for plan in plans:
        found = known[plan.token] if plan.token in known else next(made)
        if isinstance(found, str):
            problems.append(found)
        else:
            drawings += found
    return drawings, problems


def _drawn_by(
    plans: Sequence[_Plan], run: Run, progress: Callable[[str], None] | None, workers: int
) -> Iterator[list[Drawing] | str]:
    """Yield the drawings of each plan, or the reason why there are none."""

    def told(results: Iterator[list[Drawing] | str]) -> Iterator[list[Drawing] | str]:
        for plan in plans:
            if progress:
                progress(f"drawing {plan.name}")
            yield next(results)

    if workers < 2 or len(plans) < 2:
        yield from told(_tried(plan, run) for plan in plans)
        return
    # plans hold functions that cannot be pickled: workers inherit them and receive numbers
    _INHERITED[:] = [(plan, run) for plan in plans]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from told(pool.imap(_tried_number, range(len(plans))))


_INHERITED: list[tuple[_Plan, Run]] = []


def _tried_number(number: int) -> list[Drawing] | str:
    return _tried(*_INHERITED[number])


def _tried(plan: _Plan, run: Run) -> list[Drawing] | str:
    try:
        return _draw(plan, run)
    except _FAILURES as error:
        logger.warning("figure %s not drawn", plan.name, exc_info=True)
        return f"figure {plan.name} not drawn: {error}"


def draw_round(run: Run, step: str) -> dict[str, list[Drawing]]:
    """Draw the figures of a round's gains, by token; nothing after the round changes them.

    Figures that fail are left to `draw_all`, which reports the cause.
    """
    drawn: dict[str, list[Drawing]] = {}
    for row in run.rounds:
        for plan in _round_plans(run, row) if row.step == step else ():
            try:
                drawn[plan.token] = _draw(plan, run)
            except _FAILURES:
                logger.warning("figure %s not drawn yet", plan.name, exc_info=True)
    return drawn


def draw_ahead(
    run: Run, known: Mapping[str, object], *, over: bool = True, plots: bool = True
) -> Iterator[dict[str, list[Drawing]]]:
    """Draw the figures that later steps may leave as they are, one at a time, by token.

    Those that are likely to change come last.

    `draw_all` draws them again if they do change, and figures that fail here.

    Parameters
    ----------
    run : Run
        Records of a run that goes on; the summary that it would have now is made of them.
    known : mapping
        Tokens of figures that are drawn already.
    over : bool
        False before the rounds are over: images do not have the scale and region of the end.
    plots : bool
        False: no figures but those that pages show.
    """
    now = replace(run, summary=build_summary(run, {}))
    for plan in sorted(_plans(now), key=lambda plan: not plan.step):
        ready = plan.alone or (over and plan.inputs is not None)
        if ready and (plots or plan.kind in SHOWN) and plan.token not in known:
            try:
                yield {plan.token: _draw(plan, now)}
            except _FAILURES:
                logger.warning("figure %s not drawn yet", plan.name, exc_info=True)


def _draw(plan: _Plan, run: Run) -> list[Drawing]:
    """Draw the pages of a figure and write them."""
    drawings = []
    drawn = plan.draw()
    figures = drawn if isinstance(drawn, list) else [drawn]
    pages = [figure for figure in figures if figure is not None]
    for number, figure in enumerate(pages, 1):
        suffix = f"_{number}" if len(pages) > 1 else ""
        path = save_figure(figure, run.workdir / "plots" / f"{plan.name}{suffix}.png")
        page = f" ({number} of {len(pages)})" if suffix else ""
        drawings.append(Drawing(path, plan.title + page, plan.alt, plan.kind, plan.step))
    return drawings


def _plans(run: Run) -> Iterator[_Plan]:
    steps = comparable_steps(run)
    panels = [panel for row in steps if (panel := step_panel(run, row))]
    rounds = {row.step for row in run.rounds}
    last = max((i for i, panel in enumerate(panels, 1) if panel.label in rounds), default=0)
    images = _RunImages(panels, compared_panels(run, panels), panels[: last or None])
    yield from _run_plans(run, steps, images)
    if images.compared:
        for row in run.steps:
            panel = step_panel(run, row)
            if panel is not None and panel.image not in images.untouched:
                yield _image_plan(row, panel, images, row in steps)
    yield from _closure_plans(run)
    for row in run.rounds:
        yield from _round_plans(run, row)


def _closure_plans(run: Run) -> Iterator[_Plan]:
    for row in run.steps:
        records = read_closures(run, row)
        if records is not None:
            yield _Plan(
                row.step,
                "Coherence of closure phases by the longest baseline of a triangle and by station: "
                "blue is above what noise reaches, which the dashes and ticks mark.",
                "Coherence of closure phases against baseline length, and of each station. "
                + row.reason, "closure", row.step, partial(closure_figure, records),
                partial(_product_stamps, run, row), alone=True,
            )  # fmt: skip


def _round_plans(run: Run, row: StepRow) -> Iterator[_Plan]:
    """Plan the figures that belong to one round alone."""
    yield _Plan(
        f"held_out_{row.step}",
        f"Prediction of held-out data by gains of each interval and kind in {row.step}; "
        "the choice is ringed.",
        "Line chart of the decrease of chi-squared of held-out visibilities against the "
        "solution interval.", "held_out", row.step,
        partial(held_out_figure, row.metrics),
    )  # fmt: skip
    yield from _gain_plans(run, row)


@dataclass(frozen=True)
class _RunImages:
    """The images of a run, with the scale and region that they share, found once.

    Attributes
    ----------
    panels, compared : list of Panel
        Images of the comparable steps; images of the initial, final and untouched state.
    common : list of Panel
        Those of the comparable steps up to the last round: scale and region are theirs, so that
        figures drawn before the steps that follow need not be drawn again.
    """

    panels: list[Panel]
    compared: list[Panel]
    common: list[Panel]

    @property
    def untouched(self) -> set[Path]:
        return {panel.image for panel in self.compared if panel.label == UNTOUCHED}

    @cached_property
    def scale(self) -> ColourScale:
        """Scale of the run's own images: untouched data would make theirs invisible."""
        return shared_scale([panel.image for panel in self.common or self.compared])

    @cached_property
    def zoom(self) -> Box | None:
        return zoom_box(self.common)

    def shown(self, panels: Sequence[Panel]) -> object:
        """Return everything on which some panels in the common scale and region depend."""
        return panels, self.scale, self.zoom, [_panel_stamps(panel) for panel in panels]


def _stamps(paths: Iterable[Path | None]) -> list[tuple[int, int]]:
    """Return sizes and times of files."""
    found = [path.stat() for path in paths if path is not None]
    return [(stat.st_size, stat.st_mtime_ns) for stat in found]


def _product_stamps(run: Run, row: StepRow) -> list[tuple[int, int]]:
    return _stamps(run.file(path) for path in row.products.values())


def _panel_stamps(panel: Panel) -> list[tuple[int, int]]:
    return _stamps((panel.image, panel.residual, panel.mask))


def _run_plans(run: Run, steps: Sequence[StepRow], images: _RunImages) -> Iterator[_Plan]:
    """Plan the figures of the whole run."""
    panels, compared = images.panels, images.compared
    if compared:
        names = ", ".join(panel.label.lower() for panel in compared)
        yield _Plan(
            "comparison", f"Images in one colour scale: {names}."
            + (" The mask of the step is outlined." if any(p.mask for p in compared) else ""),
            "Images beside each other with one colour scale. "
            + "; ".join(f"{panel.label}: {panel.caption}" for panel in compared),
            "comparison", "", lambda: compare_images(compared, "", images.scale),
            lambda: images.shown(compared),
        )  # fmt: skip
        yield _Plan(
            "residuals", "Residual images in one scale, symmetric about zero.",
            "Residual images beside each other.", "residuals", "",
            lambda: compare_residuals(compared),
            lambda: (compared, [_panel_stamps(panel) for panel in compared]),
        )  # fmt: skip
    if len(panels) > 1:
        yield _Plan(
            "history", "The image after every step: one colour scale, one region.",
            "Thumbnails of the image after " + ", ".join(panel.label for panel in panels),
            "history", "", lambda: image_history(panels, images.scale),
            lambda: images.shown(panels),
        )  # fmt: skip
    if steps:
        yield _Plan(
            "statistics", "Statistics of the image after each step.",
            "Line charts of peak, rms, dynamic range, signal-to-noise ratio, total flux density "
            "and flagged fraction against the steps; the numbers are in the table of decisions.",
            "statistics", "", lambda: summary_figure(run, steps),
            lambda: ([(row.step, row.status, row.metrics) for row in steps], run.images,
                     [row.step for row in run.rounds], run.summary.get("untouched")),
        )  # fmt: skip


def _visibility_plans(densities: Sequence[VisibilityDensity]) -> Iterator[_Plan]:
    if densities:
        yield _Plan(
            "visibilities",
            "Amplitude of the channel-averaged, unflagged visibilities and, where there is a "
            "model, their phase less the model's, by uv distance, before and after. Shades "
            "count the points, the line is the model.",
            "Densities of visibility amplitude and phase against uv distance.",
            "visibilities", "", lambda: visibility_figure(densities),
        )  # fmt: skip


def _image_plan(row: StepRow, panel: Panel, images: _RunImages, comparable: bool) -> _Plan:
    def draw() -> Figure:
        if not comparable:
            return round_images(panel, shared_scale([panel.image]))
        return round_images(panel, images.scale, images.zoom)

    scale = "in the colour scale of the whole run" if comparable else "in a colour scale of its own"
    return _Plan(
        f"images_{row.step}", f"Image and residual of {row.step}, {scale}.",
        f"Image and residual of {row.step}. {panel.caption}", "images", row.step, draw,
        lambda: images.shown([panel]) if comparable else (panel, _panel_stamps(panel)),
        alone=not comparable,
    )  # fmt: skip


def _gain_plans(run: Run, row: StepRow) -> Iterator[_Plan]:
    """Plan the figures of the gains that a round solved, for each data set."""
    minsnr = as_number(row.settings.get("minsnr"))
    for number, relative in enumerate(row.gain_tables):
        path = run.file(relative)
        if path is None:
            continue
        many = len(row.gain_tables) > 1
        stem = f"{row.step}_{number}" if many else row.step
        of = f"{row.step}, {path.name}" if many else row.step
        gains = _Gains(run, path, of, minsnr if math.isfinite(minsnr) else None)
        described = "; a table of their statistics follows."
        yield _Plan(
            f"phase_{stem}", f"Gain phases of {of}, one panel for each antenna.",
            f"Gain phase against time for every antenna{described}",
            "phase", row.step, gains.phases,
        )  # fmt: skip
        yield _Plan(
            f"amplitude_{stem}", f"Gain amplitudes of {of}, one panel for each antenna.",
            f"Gain amplitude against time for every antenna{described}",
            "amplitude", row.step, gains.amplitudes,
        )  # fmt: skip
        yield _Plan(
            f"snr_{stem}", f"Signal-to-noise ratios of the solutions of {of}.",
            "Histogram of the signal-to-noise ratios of the solutions.", "snr", row.step,
            gains.snr,
        )  # fmt: skip


@dataclass(frozen=True)
class _Gains:
    """A gain table that is read once for all its figures."""

    run: Run
    path: Path
    of: str
    minsnr: float | None

    @cached_property
    def solutions(self) -> GainSolutions:
        return table_solutions(self.run, self.path)

    def phases(self) -> list[Figure]:
        return phase_figures(self.solutions, f"Phases of {self.of}")

    def amplitudes(self) -> list[Figure]:
        return amplitude_figures(self.solutions, f"Amplitudes of {self.of}")

    def snr(self) -> Figure:
        return snr_histogram(self.solutions, self.minsnr)
