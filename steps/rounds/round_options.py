"""The parameters of a round of self-calibration."""

from __future__ import annotations

from selfcal.options import Option
from steps.images import IMAGING_OPTIONS
from steps.rounds.closure_judging import CLOSURE_OPTIONS

__all__ = ["ROUND_OPTIONS"]

ROUND_OPTIONS = (
    Option("robust", "float", "auto", "Briggs' robust of a start image of the round's own;"
           " auto: the image it is judged against gives the model", minimum=-2, words=("auto",)),
    *IMAGING_OPTIONS[1:-1],
    Option("uvmax", "length", "0m", "longest baseline imaged; 0: all; ladder: by the rung",
           minimum=0, words=("ladder",)),
    Option("sigma_mask", "float", 6.0, "the mask holds what is above this many sigma", minimum=1),
    Option("sigma_mask_floor", "float", 6.0, "how far sigma_mask may be lowered", minimum=1),
    Option("mask_dilation", "float", 0.5, "the mask is widened by this many beams", minimum=0),
    Option("solint", "time", "inf", "solution interval", words=("int", "inf", "auto")),
    Option("combine", "names", [], "axes over which one solution is made",
           choices=("spw", "scan")),
    Option("gaintype", "choice", "T", "G: a gain for each polarization, T: one for both",
           choices=("G", "T")),
    Option("solution", "choice", "auto", "what is solved for: gains, TECs, delays of windows, or"
           " constants of windows beneath a common phase or TEC; auto: by held-out data",
           choices=("auto", "gain", "tec", "tec+phase", "delay+phase", "constants+phase",
                    "constant_delay+phase", "delay+tec")),
    Option("block", "int", 0, "channels of a frequency block with phases of its own; 0: a"
           " spectral window, and for TECs worked out", minimum=0),
    Option("minsnr", "float", 1.5, "solutions below this SNR are flagged", minimum=0),
    Option("outliers", "bool", False, "weigh baselines that do not fit down: Student-t weights"
           " (native solver)"),
    Option("minblperant", "int", 4, "fewest baselines an antenna must have", minimum=2),
    Option("solve_uvmin", "length", "0m", "shortest baseline in the solve", minimum=0),
    Option("solve_uvmax", "length", "0m", "longest baseline in the solve; 0: all", minimum=0),
    Option("interp", "choice", "linear", "interpolation of the gains in time",
           choices=("linear", "nearest")),
    Option("spwmap", "spwmap", [], "table spw for each data spw; empty: worked out"),
    Option("incremental_on", "rounds", [[]],
           "rounds whose tables are kept beneath; the first group that was accepted"),
    Option("incoherent", "choice", "flag", "antennas whose solutions are noise: flag them, or keep"
           " a longer interval's solutions or what they came with", choices=("flag", "keep")),
    Option("ladder_rung", "int", 0, "place on the ladder of baseline lengths, from 0", minimum=0),
    Option("ladder_rungs", "int", 5, "number of rungs", minimum=2),
    Option("ladder_bottom", "length", "80km", "lowest limit of the first rung", minimum=0),
    Option("ladder_top", "length", "800km", "limit of the last rung", minimum=0),
    Option("min_coherent", "float", 0.0, "fraction of antennas whose solutions must be coherent",
           minimum=0),
    Option("max_cycles", "int", 1, "the round is repeated up to so many times while it helps",
           minimum=1),
    Option("min_cycle_gain", "float", 0.05, "gain of SNR below which it is not repeated",
           minimum=0),
    Option("reselect_template", "bool", False, "choose the template anew on this round's image"),
    Option("max_new_flags", "float", 0.1, "reject when more than this fraction is flagged anew",
           minimum=0),
    Option("min_snr_gain", "float", 0.0, "gain of SNR asked for, as a fraction", minimum=0),
    Option("max_snr_loss", "float", 0.01, "accepted fall of SNR, as a fraction", minimum=0),
    Option("max_rms_rise", "float", 0.05, "accepted rise of the rms, as a fraction", minimum=0),
    Option("max_beam_growth", "float", 0.05, "accepted growth of the beam area", minimum=0),
    Option("max_flux_loss", "float", 0.1, "accepted fall of the total flux", minimum=0),
    Option("flux_warning", "float", 0.03, "change of flux that is said loudly", minimum=0),
    Option("closure_test", "bool", False, "judge also by how well the image agrees with closure"
           " phases and log closure amplitudes, which no gains can touch"),
    Option("max_closure_rise", "float", 0.05, "accepted rise of their reduced chi2", minimum=0),
    Option("min_closure_fall", "float", 0.05, "fall of their reduced chi2 that makes up for"
           " changes of flux and noise in Jy", minimum=0),
    *CLOSURE_OPTIONS,
)  # fmt: skip
