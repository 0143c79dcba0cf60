"""The config keys of ``vlass_cube``."""

from __future__ import annotations

from selfcal.options import Option

__all__ = ["VLASS_OPTIONS"]

VLASS_OPTIONS: tuple[Option, ...] = (
    Option("vis", "path", "", "the self-calibrated measurement set of many fields; never written"),
    Option("resources", "path", "", "reimaging_resources.tgz of the continuum run: self-cal table,"
           " flag versions, models and masks"),
    Option("seip_list", "path", "", "parameter list of the continuum run (SEIP_parameter.list):"
           " the grid of its model and masks"),
    Option("ccip_list", "path", "", "parameter list of the cube (CCIP_parameter.list): one image"
           " for each group of windows"),
    Option("workdir", "path", "work_vlass", "where everything the run makes is written"),
    Option("steps", "names", "", "the steps, in order; empty: all"),
    Option("weights", "choice", "sigma", "sigma: after statwt WEIGHT is 1 / SIGMA^2; as_published:"
           " what CASA leaves there, the weights before", choices=("sigma", "as_published")),
    Option("model_scale", "choice", "flat_noise", "flat_noise: the continuum model is attenuated by"
           " the mosaic's response, as tclean keeps it; sky: it is not",
           choices=("flat_noise", "sky")),
    Option("field_buffer", "angle", "1000arcsec", "pointings are taken this far beyond the central"
           " square degree, as far as the image holds their beams", minimum=0),
    Option("imager", "choice", "tclean", "tclean, as in production; native: the quick mode",
           choices=("tclean", "native")),
    Option("robust", "float", 1.0, "Briggs' robust parameter", minimum=-2),
    Option("uvmax", "length", "12km", "longest baseline used; 0: all", minimum=0),
    Option("pb_limit", "float", 0.1, "images are blank where the mosaic's response is lower",
           minimum=0.02),
    Option("scales", "names", ["0", "5", "12"], "sizes of CLEAN components, pixels"),
    Option("smallscalebias", "float", 0.4, "tclean's bias toward small components"),
    Option("psfcutoff", "float", 0.5, "PSF level down to which tclean fits the beam", minimum=0),
    Option("cyclefactor", "float", 3.0, "tclean's factor on the depth of a cycle", minimum=0),
    Option("niter", "int", 20000, "most CLEAN iterations of each stage", minimum=1),
    Option("nsigma_masked", "float", 3.0, "depth of the stages within the tier-1 and tier-2 masks,"
           " in sigma", minimum=0.1),
    Option("cycleniter_masked", "int", 500, "most iterations of a cycle of these stages (tclean)",
           minimum=0),
    Option("pb_mask", "float", 0.4, "response above which the last stage puts components",
           minimum=0),
    Option("nsigma_pb", "float", 4.5, "depth of the last stage, in sigma", minimum=0.1),
    Option("cycleniter_pb", "int", 100, "most iterations of a cycle of the last stage (tclean)",
           minimum=0),
    Option("plane_reject", "table", {}, "which groups are left out for their flags: apply (True),"
           " exclude_spw (''), flagpct_thresh (0.9), nfield_thresh (12)"),
    Option("flagged_most", "float", 0.8, "planes flagged more than this are marked", minimum=0),
    Option("beam_most", "float", 0.2, "planes whose beam times frequency is off the median by more"
           " than this part are marked", minimum=0),
    Option("rms_box", "angle", "60arcsec", "side of the boxes in which the noise is measured",
           minimum=0.001),
    Option("rms_step", "int", 10, "distance of the boxes, pixels", minimum=1),
    Option("cutout", "angle", "3720arcsec", "width of the cut-out images: a degree and 2 arcmin",
           minimum=0.001),
    Option("instrument", "str", "vla", "whose primary beam, as in templates/instruments.yaml"),
    Option("cluster", "str", "inline", "where groups are imaged: inline, local:N, tcp://host:port"
           " or slurm.yaml"),
    Option("threads", "int", 0, "threads the native imager may use; 0: as many as it likes",
           minimum=0),
    Option("memory", "memory", "auto", "memory the native imager may use; auto: 60 % of the"
           " machine's", words=("auto",), minimum=1),
    Option("tool_stall", "time", "3600s", "a tool without output and CPU use this long is killed"),
    Option("quiet", "bool", False, "print warnings and the result only"),
)  # fmt: skip
