from __future__ import annotations

import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError, ToolError
from libs.imaging.interface import ImagingOptions, open_image, write_image
from libs.imaging.statistics import measure_products
from libs.imaging.wsclean import WSClean, image_arguments, parse_version, predict_arguments
from libs.ms.tables import open_table
from tests.libs import point_source
from tests.libs.fake_images import gaussian, header
from tests.libs.small_ms import make_ms

SCRATCH = Path("/scratch")


def options(**changes):
    base = ImagingOptions(
        vis=(Path("/data/a.ms"),),
        folder=Path("/out"),
        basename="p0",
        imsize=(512, 256),
        cell_arcsec=0.06,
    )
    return base.but(**changes)


def words(version=(3, 1), **changes):
    return image_arguments(options(**changes), version, SCRATCH)


def after(argv, name, count=1):
    start = argv.index(name) + 1
    return argv[start] if count == 1 else argv[start : start + count]


def test_a_plain_image():
    argv = words()
    assert after(argv, "-size", 2) == ["512", "256"]
    assert after(argv, "-scale") == "0.06asec"
    assert after(argv, "-weight", 2) == ["briggs", "0.5"]
    assert after(argv, "-data-column") == "DATA"
    assert after(argv, "-name") == "/scratch/p0"
    assert after(argv, "-temp-dir") == "/scratch"
    assert after(words(memory_bytes=6 * 2**30), "-abs-mem") == "6"
    assert argv[-1] == "/data/a.ms"
    assert "-no-update-model-required" in argv
    assert "-update-model-required" not in argv
    for absent in ("-auto-mask", "-auto-threshold", "-fits-mask", "-multiscale", "-shift"):
        assert absent not in argv


def test_arguments_are_words_never_a_line():
    assert all(isinstance(word, str) and " " not in word for word in words())


@pytest.mark.parametrize(
    ("version", "chosen"),
    [
        ((3, 0), "-use-wgridder"),
        ((3, 1), "-use-wgridder"),
        ((3, 4), "-gridder"),
        ((4, 0), "-gridder"),
    ],
)
def test_gridder_is_spelled_as_the_version_wants(version, chosen):
    argv = words(version)
    assert chosen in argv
    assert ("-use-wgridder" in argv) != ("-gridder" in argv)
    assert "-no-small-inversion" in argv


def test_cleaning_options():
    argv = words(
        niter=5000,
        gain=0.1,
        mgain=0.8,
        nmajor=7,
        automask_nsigma=5.0,
        autothreshold_nsigma=2.5,
        mask=Path("/m/mask.fits"),
        multiscale=True,
        scales_pixel=(0.0, 5.0, 12.5),
    )
    assert after(argv, "-niter") == "5000"
    assert after(argv, "-gain") == "0.1"
    assert after(argv, "-mgain") == "0.8"
    assert after(argv, "-nmiter") == "7"
    assert after(argv, "-auto-mask") == "5"
    assert after(argv, "-auto-threshold") == "2.5"
    assert after(argv, "-fits-mask") == "/m/mask.fits"
    assert after(argv, "-multiscale-scales") == "0,5,12.5"


def test_a_dirty_image_has_no_cleaning_options():
    argv = words(niter=0, automask_nsigma=5.0, multiscale=True, mask=Path("/m.fits"))
    assert after(argv, "-niter") == "0"
    assert "-reorder" in argv, "several windows are refused without it"
    assert not {"-auto-mask", "-multiscale", "-fits-mask", "-mgain"} & set(argv)


def test_weighting_taper_and_baseline_limits():
    argv = words(weighting="natural", uvtaper_arcsec=0.4, uvmin_m=10.0, uvmax_m=80e3)
    assert after(argv, "-weight") == "natural"
    assert "briggs" not in argv
    assert after(argv, "-taper-gaussian") == "0.4asec"
    assert after(argv, "-minuvw-m") == "10"
    assert after(argv, "-maxuvw-m") == "80000"


def test_frequency_slices_are_cleaned_together():
    argv = words(channels_out=4, nterms=3)
    assert after(argv, "-channels-out") == "4"
    assert "-join-channels" in argv
    assert after(argv, "-fit-spectral-pol") == "3"
    assert after(words(channels_out=2, nterms=3), "-fit-spectral-pol") == "2"


def test_several_measurement_sets():
    assert words(vis=(Path("/data/a.ms"), Path("/data/b.ms")))[-2:] == ["/data/a.ms", "/data/b.ms"]


def test_model_is_updated_only_by_a_run_that_fills_all_of_it():
    assert "-update-model-required" in words(update_model=True)
    assert "-no-update-model-required" in words(update_model=True, uvmax_m=1e3)
    assert "-no-update-model-required" in words(update_model=True, niter=0)


def test_prediction_repeats_the_grid_but_no_baseline_limit():
    argv = predict_arguments(
        options(uvmax_m=1e3, channels_out=2, phase_centre_deg=(187.5, -2.25)), (3, 1), SCRATCH
    )
    assert argv[0] == "-predict"
    assert after(argv, "-channels-out") == "2"
    assert after(argv, "-shift", 2) == ["12h30m00.0000000s", "-02d15m00.000000s"]
    assert "-maxuvw-m" not in argv


def test_shift_across_the_pole_and_the_hour_line():
    argv = words(phase_centre_deg=(359.99999999999, 0.5))
    assert after(argv, "-shift", 2) in (
        ["00h00m00.0000000s", "+00d30m00.000000s"],
        ["24h00m00.0000000s", "+00d30m00.000000s"],
    )


def test_small_images_use_one_thread_so_that_they_repeat_exactly():
    assert after(words(), "-j") == "1"
    assert after(words(threads=2), "-j") == "2"
    assert int(after(words(imsize=(2048, 2048)), "-j")) == options().cores


@pytest.mark.parametrize(
    "change",
    [
        {"imsize": (511, 512)},
        {"cell_arcsec": 0.0},
        {"robust": 3.0},
        {"uvmin_m": 100.0, "uvmax_m": 50.0},
        {"mgain": 0.0},
        {"automask_nsigma": 2.0, "autothreshold_nsigma": 3.0},
        {"vis": ()},
        {"basename": "a/b"},
        {"stokes": "QI"},
    ],
)
def test_senseless_options_are_an_error(change):
    with pytest.raises(ConfigError):
        options(**change)


def test_a_misspelled_option_is_an_error():
    with pytest.raises(TypeError):
        options(robustness=1.0)


def test_version_is_read_from_what_the_program_prints():
    assert parse_version("\nWSClean version 3.1.0 (2022-04-01)\nThis software") == (3, 1)
    assert parse_version("WSClean version 3.10 (2030-04-01)") == (3, 10)
    with pytest.raises(ToolError, match="printed no version"):
        parse_version("gcc 12")


def _program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wsclean"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


VERSION = 'if [ "$1" = -version ]; then echo "WSClean version 3.1.0"; exit 0; fi\n'


def local_options(tmp_path, **changes):
    """Options for a small measurement set, which is made where it is missing."""
    ms = tmp_path / "a.ms"
    if not ms.exists():
        make_ms(ms)
    return options(folder=tmp_path / "images", vis=(ms,)).but(**changes)


def test_an_old_version_is_refused(tmp_path):
    program = _program(tmp_path, 'echo "WSClean version 2.10.1 (2020-07-20)"\n')
    with pytest.raises(ToolError, match=r"2\.10 is too old.*imager to native"):
        WSClean(program).image(local_options(tmp_path))


def test_version_is_asked_once(tmp_path):
    program = _program(tmp_path, f'echo x >> {tmp_path}/asked\necho "WSClean version 3.1.0"\n')
    assert WSClean(program).version() == WSClean(program).version() == "WSClean version 3.1.0"
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_missing_program_is_an_error(tmp_path):
    with pytest.raises(ToolError, match="not installed"):
        WSClean(tmp_path / "nowhere").version()


def test_death_is_an_error_with_the_last_lines_and_leaves_no_products(tmp_path):
    program = _program(tmp_path, VERSION + "echo out of luck; kill -9 $$\n")
    with pytest.raises(ToolError, match=r"(?s)signal 9.*out of luck"):
        WSClean(program).image(local_options(tmp_path))
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["p0.log"]


def test_a_hang_is_an_error(tmp_path):
    program = _program(tmp_path, VERSION + "sleep 60\n")
    with pytest.raises(ToolError, match="hangs"):
        WSClean(program, stall_s=1.0).image(local_options(tmp_path))


def test_success_without_images_is_an_error(tmp_path):
    program = _program(tmp_path, VERSION + "echo done\n")
    with pytest.raises(ToolError, match="no dirty image"):
        WSClean(program).image(local_options(tmp_path))


def _writing_program(tmp_path: Path, planes: dict[str, np.ndarray]) -> Path:
    """Return a stand-in that copies ready images to where -name says."""
    for kind, plane in planes.items():
        write_image(plane, header(plane.shape), tmp_path / f"ready-{kind}.fits")
    script = 'while [ $# -gt 0 ]; do [ "$1" = -name ] && name=$2; shift; done\n'
    script += f"for k in {' '.join(planes)}; do cp {tmp_path}/ready-$k.fits $name-$k.fits; done\n"
    return _program(tmp_path, VERSION + script)


KINDS = ("dirty", "psf", "model", "residual", "image")


def test_products_are_listed_and_nothing_else_is_left(tmp_path):
    plane = gaussian((64, 64), 30, 30, 1.0)
    program = _writing_program(tmp_path, dict.fromkeys(KINDS, plane))
    leftover = tmp_path / "images" / ".p0.wsclean"
    leftover.mkdir(parents=True)
    (leftover / "p0-image.fits").write_text("half")
    made = WSClean(program).image(local_options(tmp_path))
    assert made.beam_major_arcsec == pytest.approx(2.5)
    assert made.models == (made.model,)
    assert all(path.exists() for path in made.paths)
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {f"p0-{kind}.fits" for kind in KINDS} | {"p0.log"}


@pytest.mark.parametrize(("value", "complaint"), [(np.nan, "not finite"), (0.0, "all zero")])
def test_bad_images_are_an_error_and_old_products_stay(tmp_path, value, complaint):
    plane = gaussian((64, 64), 30, 30, 1.0)
    good = WSClean(_writing_program(tmp_path, dict.fromkeys(KINDS, plane)))
    made = good.image(local_options(tmp_path))
    before = made.image.read_bytes()
    bad = dict.fromkeys(KINDS, plane) | {"image": np.full((64, 64), value)}
    with pytest.raises(ToolError, match=complaint):
        WSClean(_writing_program(tmp_path, bad)).image(local_options(tmp_path))
    assert made.image.read_bytes() == before


def test_number_of_models_must_match_the_slices(tmp_path):
    program = _program(tmp_path, VERSION)
    with pytest.raises(ToolError, match="1 model images for 2 channels"):
        WSClean(program).predict([tmp_path / "m.fits"], local_options(tmp_path, channels_out=2))


# With the real tool


@pytest.fixture(scope="module")
def point_ms(tmp_path_factory, session, wsclean):
    return point_source.make(tmp_path_factory.mktemp("wsclean") / "point.ms", session, rms_jy=0.0)


def real_options(ms, folder, **changes):
    return ImagingOptions(
        (ms,),
        folder,
        "point",
        (128, 128),
        point_source.CELL_ARCSEC,
        robust=0.0,
        niter=2000,
        automask_nsigma=5.0,
        autothreshold_nsigma=2.0,
    ).but(**changes)


def _peak(products):
    plane, _ = open_image(products.image)
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    return int(x) - plane.shape[1] // 2, int(y) - plane.shape[0] // 2, float(plane.max())


EAST, NORTH = point_source.OFFSET_PIXELS


@pytest.mark.tools
def test_point_source_is_where_and_what_it_is_and_so_is_its_model(point_ms, tmp_path):
    made = WSClean().image(real_options(point_ms, tmp_path, update_model=True))
    assert _peak(made) == (-EAST, NORTH, pytest.approx(point_source.FLUX_JY, rel=1e-3))
    assert point_source.model_error(point_ms) < 1e-3
    found = measure_products(made)
    assert found.total_flux_jy == pytest.approx(point_source.FLUX_JY, rel=5e-3)
    assert found.dynamic_range > 1e4
    plane, _ = open_image(made.psf)
    assert plane.max() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.tools
def test_model_stays_as_it_was_unless_updated_and_prediction_fills_it(point_ms, tmp_path):
    wanted = real_options(point_ms, tmp_path)
    made = WSClean().image(wanted.but(update_model=True))
    point_source.forget_model(point_ms)
    WSClean().image(wanted)
    with open_table(point_ms) as opened:
        assert (opened.getcol("MODEL_DATA") == 7.0).all()
    WSClean().predict(made.models, wanted)
    assert point_source.model_error(point_ms) < 1e-3


@pytest.mark.tools
def test_model_covers_baselines_that_were_not_imaged(point_ms, tmp_path):
    point_source.forget_model(point_ms)
    WSClean().image(real_options(point_ms, tmp_path, update_model=True, uvmax_m=2000.0))
    assert point_source.model_error(point_ms) < 1e-2


@pytest.mark.tools
def test_shifted_image_has_the_source_at_its_centre_and_predicts_rightly(point_ms, tmp_path):
    plain = WSClean().image(real_options(point_ms, tmp_path))
    found = measure_products(plain)
    shifted = real_options(
        point_ms, tmp_path, phase_centre_deg=(found.peak_ra_deg, found.peak_dec_deg)
    )
    made = WSClean().image(shifted.but(basename="shifted"))
    assert _peak(made)[:2] == (0, 0)
    assert measure_products(made).peak_dec_deg == pytest.approx(found.peak_dec_deg, abs=1e-6)
    point_source.forget_model(point_ms)
    WSClean().predict(made.models, shifted)
    assert point_source.model_error(point_ms) < 5e-3


@pytest.mark.tools
def test_components_stay_inside_the_mask_given(point_ms, tmp_path):
    wanted = real_options(point_ms, tmp_path)
    made = WSClean().image(wanted)
    plane, head = open_image(made.model)
    mask = np.zeros_like(plane)
    mask[10:20, 10:20] = 1
    path = write_image(mask, head, tmp_path / "mask.fits")
    free = wanted.but(automask_nsigma=0.0, autothreshold_nsigma=0.0)
    masked = WSClean().image(free.but(mask=path, basename="masked", niter=50))
    model, _ = open_image(masked.model)
    assert model.any()
    assert not model[mask == 0].any()


@pytest.mark.tools
def test_two_runs_make_the_same_pixels(point_ms, tmp_path):
    wanted = real_options(point_ms, tmp_path)
    first, _ = open_image(WSClean().image(wanted).image)
    second, _ = open_image(WSClean().image(wanted.but(basename="again")).image)
    assert np.array_equal(first, second)


@pytest.mark.tools
def test_dirty_image_alone(point_ms, tmp_path):
    made = WSClean().image(real_options(point_ms, tmp_path, niter=0))
    image, _ = open_image(made.image)
    residual, _ = open_image(made.residual)
    assert np.array_equal(image, residual)
    assert not open_image(made.model)[0].any()


@pytest.mark.tools
def test_dirty_images_of_slices_have_empty_models_each(wsclean, tmp_path):
    ms = make_ms(tmp_path / "wide.ms", channels=8)
    made = WSClean().image(real_options(ms, tmp_path, niter=0, channels_out=2, nterms=2))
    assert len(made.models) == 2
    assert not any(open_image(model)[0].any() for model in made.models)
    first, second = (open_image(model)[1]["CRVAL3"] for model in made.models)
    assert first != second, "each has its own frequency"


@pytest.mark.tools
@pytest.mark.parametrize("harm", ["flags", "weights"])
def test_data_without_weight_are_an_error(point_ms, tmp_path, harm):
    ms = tmp_path / "bad.ms"
    shutil.copytree(point_ms, ms)
    with open_table(ms, write=True) as opened:
        names = ["FLAG"] if harm == "flags" else ["WEIGHT", "WEIGHT_SPECTRUM"]
        for name in names:
            opened.putcol(name, np.full_like(opened.getcol(name), name == "FLAG"))
    with pytest.raises(ToolError, match=r"not finite|all zero"):
        WSClean().image(real_options(ms, tmp_path))
