"""Whether a round of self-calibration made the image better, worse or left it alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from libs.core.numbers import format_number

__all__ = ["Fault", "Limits", "Verdict", "judge", "judge_ladder", "ladder_uvmax_m"]


class Fault(StrEnum):
    """What speaks against a round."""

    CLOSURE = "closure quantities"
    NOISE = "noise of the image"
    DATA = "resolution or data lost"
    NO_RISE = "no rise of the SNR, where one is asked for"
    FLUX = "flux"


@dataclass(frozen=True)
class Limits:
    """How much worse is still accepted, as fractions of the best image's values.

    Attributes
    ----------
    snr_gain : float
        Of SNR, asked of a round that takes the place of another; 0: none is asked.
    snr_loss : float
        Of SNR and near-field SNR. Noise makes both waver from image to image.
    rms_rise : float
        Of the residual's noise, unless SNR gained more than that, or decisively.
    beam_growth : float
        Of the beam area: flagging of long baselines betrays itself there (5 % is what ALMA's
        and the VLA's pipelines allow).
    new_flags : float
        Of all visibilities, flagged by the round.
    decisive : float
        Factor by which SNR must have risen after what was lost of near-field SNR, resolution and
        data is taken off, for these losses to be accepted: root 2 means that half of the noise
        power of the best image was artefacts, which are gone.
    flux_loss : float
        Of the total flux, where it exceeds three times the errors of both fluxes, which hold
        the artefacts of the worse image.
    flux_warning : float
        A change of the total flux beyond twice its error to be said loudly.
    flux_drift : float
        Of the total flux in an amplitude round that gains less SNR than that: cycle by cycle
        such rounds would drain it.
    closure_rise : float
        Of the reduced chi2 of the closure quantities, where it is known.
    closure_fall : float
        A fall of that chi2 by so much is a better image whatever became of its flux.
    """

    snr_gain: float = 0.0
    snr_loss: float = 0.01
    rms_rise: float = 0.05
    beam_growth: float = 0.05
    new_flags: float = 0.1
    decisive: float = math.sqrt(2)
    flux_loss: float = 0.1
    flux_warning: float = 0.03
    flux_drift: float = 0.003
    closure_rise: float = 0.05
    closure_fall: float = 0.05


@dataclass(frozen=True)
class Verdict:
    """The judgement: ``accepted``, why in one line, warnings that hold either way, and faults."""

    accepted: bool
    reason: str
    warnings: tuple[str, ...] = ()
    faults: frozenset[Fault] = frozenset()


def _from_to(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    """A value before and after, with four digits."""
    return f"{format_number(before[name], 4)} to {format_number(after[name], 4)}"


def _change(new: float, old: float) -> float:
    return (new - old) / abs(old) if old else 0.0


def judge(
    new: Mapping[str, float],
    best: Mapping[str, float],
    limits: Limits = Limits(),
    *,
    amplitude: bool = False,
    expected_flux: float = 1.0,
    flux_known: bool = False,
    flagged: tuple[float, float] = (0.0, 0.0),
    flux_within: tuple[float, float] | None = None,
    closure_chi2: tuple[float, float] | None = None,
    near_field_error: float = 0.0,
) -> Verdict:
    """Compare a round's image with the best so far; both made with the same parameters.

    Parameters
    ----------
    new, best : mapping
        Image statistics: ``snr``, ``near_field_snr``, ``dynamic_range``, ``rms_jy_beam``,
        ``beam_area_arcsec2``, ``total_flux_jy``, ``flux_error_jy``, ``mask_beams``,
        ``peak_jy_beam``.
    limits : Limits
    amplitude : bool
        The round changed amplitudes: the flux scale is watched.
    expected_flux : float
        By what factor the amplitudes themselves say the flux changes in a naturally weighted
        image (`libs.gains.flux_scale.flux_factor`); what lies between 1 and that is no drift.
    flux_known : bool
        Stations of known amplitudes fix the flux scale of the new image (`hold_flux_scale`):
        neither its flux nor its noise in Jy is compared with that of the best.
    flagged : (float, float)
        Fractions of the visibilities flagged before and by the round.
    flux_within : (float, float), optional
        Fluxes of the new and of the best image within the source mask of the new one
        (`libs.image_statistics.fluxes_within`), Jy. Where the new image is decisively the better
        one these tell whether flux was lost: what the best image shows elsewhere, the better
        would show too if it were there.
    closure_chi2 : (float, float), optional
        Reduced chi2 of the new and of the best image's model against the closure quantities of
        the data (`libs.closure.agreement`). Station gains cannot touch these, so an image that
        agrees worse is taken back, and one that agrees better need not keep the flux, nor the
        noise in Jy and around the source, that wrong amplitudes gave the best one: its SNR and
        dynamic range must not fall. What is below 1 all agrees.
    near_field_error : float
        Of the change of the SNR near the source (1 sigma), as a fraction: a fall of less than
        twice that is none.

    Returns
    -------
    Verdict
    """
    unknown = [name for name in _COMPARED if not math.isfinite(new[name])]
    if unknown:
        return Verdict(False, f"the image has no {', '.join(unknown)}")
    change = {name: _change(new[name], best[name]) for name in _COMPARED}
    summary = (
        f"SNR {_from_to(best, new, 'snr')}, rms {change['rms_jy_beam']:+.1%},"
        f" peak {change['peak_jy_beam']:+.1%}, flux {change['total_flux_jy']:+.1%}"
    )
    faults: list[tuple[Fault, str]] = []
    closer = False
    if closure_chi2 is not None:
        said = "closure chi2 from {1:.3g} to {0:.3g}".format(*closure_chi2)
        closure = _change(max(closure_chi2[0], 1.0), max(closure_chi2[1], 1.0))
        closer = closure < -limits.closure_fall
        if not closure <= limits.closure_rise:
            faults.append((Fault.CLOSURE, said.replace("chi2", "chi2 rose")))
        summary += f", {said}"
    if change["near_field_snr"] < 0 and -change["near_field_snr"] < 2 * near_field_error:
        summary += (
            f", SNR near the source {_from_to(best, new, 'near_field_snr')}, which is within"
            f" twice its error of {near_field_error:.1%}"
        )
        change["near_field_snr"] = 0.0
    image_faults, outweighed = _image_faults(new, best, change, limits, flagged, closer=closer)
    faults += image_faults
    if not closer and not flux_known:
        faults += _noise_faults(change, limits)
    if change["snr"] + 1 < limits.decisive:
        flux_within = None
    found, warnings = _flux_faults(new, best, limits, change, amplitude, expected_flux, flux_within)
    if not closer and not flux_known:
        faults += found
    if flux_known:
        warnings = ()
    if faults:
        said = "; ".join(words for _, words in faults)
        return Verdict(False, f"{said} ({summary})", warnings, frozenset(one for one, _ in faults))
    if outweighed:
        summary += "; outweighed by the SNR: " + ", ".join(outweighed)
    return Verdict(True, summary, warnings)


def _image_faults(
    new: Mapping[str, float],
    best: Mapping[str, float],
    change: Mapping[str, float],
    limits: Limits,
    flagged: tuple[float, float],
    *,
    closer: bool,
) -> tuple[list[tuple[Fault, str]], list[str]]:
    """What is worse whatever the unit of the image, and what of it the SNR outweighs.

    ``closer``: it agrees better with closure quantities.
    """
    faults: list[tuple[Fault, str]] = []
    if change["snr"] < -limits.snr_loss:
        faults.append((Fault.NOISE, f"SNR fell from {_from_to(best, new, 'snr')}"))
    noisier = _noisier(new, best, change, limits, closer=closer)
    losses = _losses(change, limits, flagged)
    left = math.prod(kept for _, kept in noisier)
    # other looks at the same noise: the image must be the better one on the whole
    outweighed = [said for said, _ in noisier] if (1 + change["snr"]) * left > 1 else []
    if not outweighed:
        faults += [(Fault.NOISE, said) for said, _ in noisier]
    if (1 + change["snr"]) * left * math.prod(kept for _, kept in losses) >= limits.decisive:
        outweighed += [said for said, _ in losses]
    else:
        faults += [(Fault.DATA, said) for said, _ in losses]
    if not faults and not closer and limits.snr_gain > 0 and change["snr"] < limits.snr_gain:
        asked = f"and a rise of {limits.snr_gain:.1%} is asked for"
        faults.append((Fault.NO_RISE, f"SNR changed by {change['snr']:+.1%}, {asked}"))
    return faults, outweighed


def _noisier(
    new: Mapping[str, float],
    best: Mapping[str, float],
    change: Mapping[str, float],
    limits: Limits,
    *,
    closer: bool,
) -> list[tuple[str, float]]:
    """What else of the noise is worse, each with the fraction that is left of it.

    The SNR near the source and the dynamic range measure the same noise elsewhere and otherwise
    than the SNR does; each of the three wavers.
    """
    said = {"dynamic_range": "dynamic range fell from"}
    if not closer:
        said["near_field_snr"] = "SNR near the source fell from"
    return [
        (f"{words} {_from_to(best, new, name)}", 1 + change[name])
        for name, words in said.items()
        if change[name] < -limits.snr_loss
    ]


def _losses(
    change: Mapping[str, float], limits: Limits, flagged: tuple[float, float]
) -> list[tuple[str, float]]:
    """What of resolution and data is lost beyond the limits, each with the fraction that is left.

    None of these can refuse on its own a round that took most of the artefacts away.
    """
    losses = []
    growth = change["beam_area_arcsec2"]
    if growth > limits.beam_growth:
        losses.append((f"beam area grew by {growth:.1%}", 1 / (1 + growth)))
    before, after = flagged
    if after - before > limits.new_flags:
        said = f"{after:.1%} of the visibilities are flagged, {before:.1%} were before"
        losses.append((said, (1 - after) / (1 - before)))
    return losses


def _noise_faults(change: Mapping[str, float], limits: Limits) -> list[tuple[Fault, str]]:
    """Noise in Jy that rose by more than the SNR, unless that rose decisively.

    Phases that scatter take the peak away together with its sidelobes: where these are the noise,
    as in sparse data, both come back.
    """
    rms = change["rms_jy_beam"]
    weighed = change["snr"] >= rms or 1 + change["snr"] >= limits.decisive
    worse = rms > limits.rms_rise and not weighed
    return [(Fault.NOISE, f"rms rose by {rms:.1%}")] if worse else []


def _flux_faults(
    new: Mapping[str, float],
    best: Mapping[str, float],
    limits: Limits,
    change: Mapping[str, float],
    amplitude: bool,
    expected_flux: float,
    flux_within: tuple[float, float] | None,
) -> tuple[list[tuple[Fault, str]], tuple[str, ...]]:
    """What is wrong with the flux, and what is to be said loudly of it."""
    faults: list[tuple[Fault, str]] = []
    warnings: tuple[str, ...] = ()
    error_jy = _flux_error_jy(new, best)
    lost_jy = best["total_flux_jy"] - new["total_flux_jy"]
    flux = change["total_flux_jy"]
    fell, label = flux, "total flux"
    fell_jy = lost_jy
    if flux_within is not None and flux < -limits.flux_loss:
        fell, label = _change(*flux_within), "flux within the source"
        fell_jy = flux_within[1] - flux_within[0]
    if fell < -limits.flux_loss and fell_jy > 3 * error_jy:
        faults.append((Fault.FLUX, f"{label} fell by {-fell:.1%}"))
    drift = _outside(flux, expected_flux - 1)
    if amplitude and drift > max(limits.flux_drift, change["snr"], 0.0):
        said = f"total flux changed by {flux:+.1%}, which the little SNR gained does not warrant"
        faults.append((Fault.FLUX, said))
    if amplitude and drift > limits.flux_warning and abs(lost_jy) > 2 * error_jy:
        warnings = (f"the amplitude round changed the total flux by {flux:+.1%}",)
    return faults, warnings


def _flux_error_jy(new: Mapping[str, float], best: Mapping[str, float]) -> float:
    """Error of the difference of two images' total fluxes, Jy.

    Beside each flux's own error: what the residual of the worse image has above that of the
    better, made of the same data, are artefacts. Unlike noise these need not average out over
    the beams of a mask.
    """
    worse, better = sorted((new, best), key=lambda image: image["snr"])
    excess = max(worse["rms_jy_beam"] ** 2 - better["rms_jy_beam"] ** 2, 0.0)
    return math.hypot(
        new.get("flux_error_jy", 0.0),
        best.get("flux_error_jy", 0.0),
        math.sqrt(excess) * worse.get("mask_beams", 0.0),
    )


def _outside(change: float, explained: float) -> float:
    """By how much a change lies outside the range from nothing to what is explained."""
    return max(change - max(explained, 0.0), min(explained, 0.0) - change, 0.0)


_COMPARED = (
    "snr", "near_field_snr", "dynamic_range", "rms_jy_beam", "beam_area_arcsec2",
    "total_flux_jy", "peak_jy_beam",
)  # fmt: skip


def ladder_uvmax_m(
    coherent_m: float, bottom_m: float, top_m: float, rung: int, rungs: int
) -> float:
    """Return the longest baseline of a rung, m.

    The ladder climbs by equal factors from the maximum coherent baseline (at least ``bottom_m``)
    to ``top_m``; where closure phases are coherent beyond that, every rung has all of it.
    """
    top_m = max(top_m, coherent_m)
    start = min(max(coherent_m, bottom_m), top_m)
    share = min(rung, rungs - 1) / (rungs - 1)
    return float(start * (top_m / start) ** share)


def judge_ladder(
    new: Mapping[str, float],
    best: Mapping[str, float],
    limits: Limits,
    coherent: float,
    min_coherent: float,
) -> Verdict:
    """Judge a rung of the ladder, whose image has another resolution than the best so far.

    It goes on while solutions are coherent on the stations imaged and the total flux does not
    fall significantly: peak and noise cannot be compared across resolutions.

    Parameters
    ----------
    new, best : mapping
        Image statistics, as in `judge`.
    limits : Limits
    coherent : float
        Fraction of the stations whose solutions are coherent.
    min_coherent : float
        Least fraction accepted.
    """
    lost_jy = best["total_flux_jy"] - new["total_flux_jy"]
    error_jy = _flux_error_jy(new, best)
    change = _change(new["total_flux_jy"], best["total_flux_jy"])
    faults = []
    if coherent < min_coherent:
        faults.append(f"solutions are coherent on only {coherent:.0%} of the stations")
    if change < -limits.flux_loss and lost_jy > 3 * error_jy:
        faults.append(f"total flux fell by {-change:.1%}")
    summary = (
        f"SNR {format_number(new['snr'], 4)}, flux {change:+.1%},"
        f" {coherent:.0%} of the stations coherent,"
        f" beam {math.sqrt(new['beam_area_arcsec2']):.3g} arcsec"
    )
    if faults:
        return Verdict(False, "; ".join(faults) + f" ({summary})")
    return Verdict(True, summary)
