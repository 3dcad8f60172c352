"""The command line, in process: what it prints, what it writes, how it ends. Nothing here looks at a time."""

import json
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv import registry
from fastconv.bench import cases, contest, machine, report, tables, worker
from fastconv.cli import demo_steps, main

AVAILABLE = [b.name for b in registry.BACKENDS if machine.unavailable(b) is None]
TINY = ["bench", "--quick", "--cases", "tiny-8x16", "--rounds", "1"]


@pytest.fixture
def image(tmp_path):
    """A picture with edges in every direction, 40 x 32."""
    from PIL import Image

    y, x = np.mgrid[:32, :40]
    pixels = np.stack([(x - 20) ** 2 + (y - 16) ** 2 < 100, x > y, (x // 5 + y // 5) % 2], axis=-1) * np.uint8(255)
    path = tmp_path / "shapes.png"
    Image.fromarray(pixels.astype("uint8")).save(path)
    return str(path)


@pytest.fixture
def without(monkeypatch):
    """Make modules look as if they were not installed."""

    def hide(*names):
        monkeypatch.setattr(registry, "installed", lambda module: module not in names)

    return hide


@pytest.fixture
def spoiled(monkeypatch):
    """Let im2col put a value into one element of every result."""
    im2col = registry.find("im2col").load()
    true = im2col.run

    def spoil(value):
        def run(state, problem, operands, out, **options):
            true(state, problem, operands, out, **options)
            out[0, 0, 0, 1, 1] = value

        monkeypatch.setattr(im2col, "run", run)

    return spoil


@pytest.fixture
def in_process(monkeypatch):
    """Contestants in this process, where a test can spoil one."""

    class Here:
        def __init__(self, name, threads):
            self.session = worker.Session(name, threads)

        def ask(self, do, **request):
            return json.loads(json.dumps(getattr(self.session, do)(**request), allow_nan=False))

        def close(self):
            pass

    monkeypatch.setattr(contest, "Process", Here)


def one_line(capsys):
    """What the command said on stderr, after checking that it is one line and that stdout is empty."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fastconv: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    "argv, names",
    [
        ([], ["COMMAND"]),
        (["paint"], ["paint", "demo"]),
        (["explain"], ["LAYER"]),
        (["explain", "ic64ih56q3"], ["ic64ih56q3", "'q'"]),
        (["explain", "ic4ih2oc4k3"], ["kernel", "pad by 1 more"]),
        (["explain", "ih8k3", "--dtype", "float16"], ["float16", "float32"]),
        (["explain", "ih8k3", "--layout", "NWC"], ["NWC", "NHWC"]),
        (["explain", "ih8k3", "--backend", "best"], ["best", "im2col"]),
        (["explain", "ih8k3", "--max-workspace", "-1"], ["max-workspace", "-1"]),
        (["bench", "--cases", "huge"], ["huge", "resnet-50", "list"]),
        (["bench", "--cases", ""], ["--cases", "list"]),
        (["bench", "--threads", "0"], ["threads=0"]),
        (["bench", "--threads", "two"], ["two", "1,2"]),
        (["bench", "--rounds", "0"], ["--rounds=0"]),
        (["bench", "--backends", "best"], ["best", "im2col"]),
        (["bench", "--backends", "best-nhwc"], ["best-nhwc", "im2col"]),
        (["bench", "--backends", "auto,-nhwc"], ["-nhwc", "im2col"]),
        (["bench", "--backends", "torch-nhwc"], ["torch-nhwc", "--peers"]),
        (["bench", "--from", "nowhere.json"], ["nowhere.json"]),
        (["bench", "--against", "nowhere.json"], ["--against", "nowhere.json"]),
        (["bench", "--caches", "warm"], ["warm", "hot or cold"]),
        (["bench", "--peers", "cudnn"], ["cudnn", "openvino"]),
        (["bench", "--history", "nowhere"], ["nowhere", "asv"]),
        (["demo", "nowhere.jpg"], ["nowhere.jpg"]),
        (["demo", "--out", "/no/such/folder/x.png"], ["/no/such/folder"]),
        (["demo", "--threads", "0"], ["threads=0"]),
        (["demo", "--backends", "best"], ["best", "im2col"]),
    ],
)
def test_bad_usage_is_one_line_that_names_argument_and_remedy(argv, names, capsys):
    assert main(argv) == 2
    said = one_line(capsys)
    assert all(name in said for name in names)


def test_a_bad_variable_is_bad_usage(monkeypatch, capsys):
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "many")
    assert main(["info"]) == 2
    assert "FASTCONV_NUM_THREADS='many'" in one_line(capsys)


@pytest.mark.parametrize("argv, extra", [(["demo"], "demo"), (TINY, "bench")])
def test_a_missing_extra_is_named_with_its_command(argv, extra, without, capsys):
    without("rich")
    assert main(argv) == 1
    assert f"rich not installed; run: pip install 'fastconv[{extra}]'" in one_line(capsys)


def test_help_loads_no_command_and_nothing_heavy():
    code = (
        "import sys, contextlib, io\nfrom fastconv.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print([m for m in sys.modules if m in ('numba', 'rich', 'matplotlib', 'scipy', 'fastconv.bench')])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{fastconv.__version__}\n"


def test_info_lists_every_backend(capsys, monkeypatch):
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "3")
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{b.name} " in said for b in registry.BACKENDS)
    assert "FASTCONV_NUM_THREADS=3" in said and "numpy" in said


def test_info_as_json(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in facts["backends"] if row["available"]] == AVAILABLE
    assert facts["versions"]["fastconv"] == fastconv.__version__
    assert facts["threads"]["default"] == fastconv.get_num_threads()
    assert facts["machine"]["instruction_sets"].keys() == {"extension", "compiled", "present", "in_use"}


def test_info_names_a_backend_that_does_not_load(capsys, monkeypatch):
    gone = registry.Backend("gone", "fastconv.gone", "a test", registry.Capabilities())
    monkeypatch.setattr(registry, "BACKENDS", [gone, *registry.BACKENDS])
    assert main(["info"]) == 0
    assert "missing: fastconv.gone does not load" in capsys.readouterr().out


def test_explain_says_what_runs_and_why_not(capsys):
    assert main(["explain", "ic64 ih56 oc64 k5", "--backend", "im2col"]) == 0
    said = capsys.readouterr().out
    assert "ic64ih56oc64k5" in said and "needs a kernel of 3x3, 1x3, 3x1, 1x5 or 5x1; got 5x5" in said


def test_explain_as_json_takes_every_option(capsys):
    argv = ["explain", "ic8ih9oc8k3p1", "--dtype", "int8", "--padding-mode", "reflect", "--layout", "NHWC", "--json",
            "--accuracy", "exact", "--max-workspace", "1000000", "--backend", "naive"]  # fmt: skip
    assert main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["dtype"], said["layout"], said["output_shape"]) == ("int8", "NHWC", [1, 9, 9, 8])
    assert [row["backend"] for row in said["backends"] if row["verdict"] == "chosen"] == ["naive"]


def test_explain_ends_with_1_where_nothing_would_run(capsys):
    assert main(["explain", "ic8ih9oc8k5", "--backend", "winograd"]) == 1
    assert "refused" in capsys.readouterr().out


def test_demo_prints_a_row_for_each_backend_and_draws(image, tmp_path, capsys):
    from PIL import Image

    out = tmp_path / "maps.png"
    assert main(["demo", image, "--out", str(out), "--threads", "2"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and all(f"│ {name} " in said.out for name in AVAILABLE)
    refused = "winograd: bank 11x11 needs a kernel of 3x3, 1x3, 3x1, 1x5 or 5x1; got 11x11"
    assert (refused in said.out) == ("winograd" in AVAILABLE)
    with Image.open(out) as drawn:
        assert drawn.format == "PNG" and min(drawn.size) > 1000
        assert len(np.unique(np.asarray(drawn.convert("L")))) > 100


def test_demo_as_json(image, tmp_path, capsys):
    argv = ["demo", image, "--out", str(tmp_path / "maps.png"), "--json", "--backends", "im2col", "--threads", "1"]
    assert main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["backend"] for row in said["backends"]] == ["im2col", "naive"] and said["threads"] == 1
    assert all(row["complete"] and row["error"] < 1e-5 for row in said["backends"])
    assert said["backends"][1]["speed_up"] == pytest.approx(1)


def test_demo_says_what_an_element_of_its_last_layer_sees(image, tmp_path, capsys):
    argv = ["demo", image, "--out", str(tmp_path / "maps.png"), "--json", "--backends", "im2col"]
    assert main(argv) == 0
    fields = json.loads(capsys.readouterr().out)["receptive_field"]
    assert [field["size"] for field in fields] == [[7, 7], [11, 11], [19, 19]]
    assert [field["stride"] for field in fields] == [[2, 2], [4, 4], [4, 4]]
    for axis, pixels in enumerate((32, 40)):
        (top, bottom), inner = fields[-1]["region"][axis], fields[0]["region"][axis]
        assert 0 <= top <= inner[0] < inner[1] <= bottom <= pixels


def test_demo_shows_the_same_stack_as_it_computes():
    from fastconv.cli import demo_field

    steps, pooled = demo_steps.prepare(np.zeros((60, 44, 3), np.float32))
    sizes = [field.output_size for field in fastconv.receptive_field([text for _, text in demo_field.STACK], (60, 44))]
    stem, corners = (next(s for s in steps if s.name == name) for name in ("stem", "corners"))
    assert sizes == [stem.expected.shape[2:], pooled.shape[1:], corners.expected.shape[2:]]
    assert f"k{stem.w.shape[2]}s{stem.stride}p{stem.padding}" == demo_field.STACK[0][1]


def test_demo_without_numba_runs_naive_on_a_crop_and_says_so(image, tmp_path, without, monkeypatch, capsys):
    without("numba")
    monkeypatch.setattr(demo_steps, "CROP_FLOPS", 10_000)
    assert main(["demo", image, "--out", str(tmp_path / "maps.png"), "--backends", "im2col"]) == 0
    said = capsys.readouterr().out
    assert "naive (crop)" in said and "pip install numba" in said


def test_demo_ends_with_1_on_one_wrong_element(image, tmp_path, spoiled, capsys):
    spoiled(1e3)
    assert main(["demo", image, "--out", str(tmp_path / "maps.png"), "--backends", "im2col"]) == 1
    assert "im2col on edges, im2col on bank" in capsys.readouterr().err


def test_bench_report_goes_to_a_file_and_into_a_readme(tmp_path, capsys):
    saved, readme = tmp_path / "bench.json", tmp_path / "README.md"
    assert main([*TINY, "--threads", "1,2", "--json", str(saved)]) == 0
    said = capsys.readouterr()
    names = ["auto", *AVAILABLE]
    assert said.err == "" and all(f"│ {name} " in said.out for name in names)
    entries = json.loads(saved.read_text())["entries"]
    assert [(e["contestant"], e["threads"]) for e in entries] == [(n, t) for t in (1, 2) for n in names]
    assert all(e["right"] and e["gflops"] > 0 and e["kept"] == [True] for e in entries)

    readme.write_text(f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n")
    assert main(["bench", "--from", str(saved), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"above\n{tables.BEGIN}\n") and text.endswith(f"\n{tables.END}\nbelow\n")
    assert "old" not in text and "| tiny-8x16 `ic8ih16oc8k3p1` |" in text and "2 threads" in text
    assert main(["bench", "--from", str(saved), "--readme", str(readme)]) == 0
    assert readme.read_text() == text


def test_bench_as_json_on_stdout(capsys):
    assert main([*TINY, "--backends", "im2col", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [e["contestant"] for e in said["entries"]] == ["im2col"] and said["schema"] == report.SCHEMA


def test_bench_keeps_the_finished_cases_when_it_is_interrupted(tmp_path, in_process, monkeypatch, capsys):
    finish, path = contest.Contest.run, tmp_path / "run.json"

    def run(self, case, tick):
        if case.name == "tiny-1x64-3":
            raise KeyboardInterrupt
        return finish(self, case, tick)

    monkeypatch.setattr(contest.Contest, "run", run)
    options = ["--backends", "im2col", "--rounds", "2", "--caches", "hot", "--json", str(path)]
    assert main(["bench", "--cases", "tiny-8x16,tiny-1x64-3", *options]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [case["name"] for case in json.loads(path.read_text())["cases"]] == ["tiny-8x16"]
    path.unlink()
    assert main(["bench", "--cases", "tiny-1x64-3", *options]) == 130
    assert not path.exists()


def test_bench_says_how_far_two_runs_agree(tmp_path, capsys):
    saved = tmp_path / "bench.json"
    assert main([*TINY, "--backends", "im2col", "--json", str(saved)]) == 0
    capsys.readouterr()
    assert main(["bench", "--from", str(saved), "--against", str(saved)]) == 0
    assert "0 of 0 ratios agree within 10 %" in capsys.readouterr().out


def test_bench_tells_hot_and_cold_caches_apart(tmp_path, capsys):
    saved = tmp_path / "bench.json"
    assert main([*TINY, "--backends", "im2col", "--caches", "hot,cold", "--json", str(saved)]) == 0
    entries = json.loads(saved.read_text())["entries"]
    assert [e["cache"] for e in entries] == ["hot", "cold"] and "tiny-8x16 (cold)" in capsys.readouterr().out


def test_a_rival_that_is_not_installed_is_named(without, capsys):
    without("torch", "cv2")
    assert main([*TINY, "--backends", "im2col", "--peers", "torch"]) == 1
    assert "'torch' is not available: torch not installed; run 'pip install fastconv[peers]'" in one_line(capsys)


def test_bench_lists_who_refused(capsys):
    if "winograd" not in AVAILABLE:
        pytest.skip("winograd is not available here")
    argv = ["bench", "--cases", "1x1", "--rounds", "1", "--backends", "winograd,im2col"]
    assert main(argv) == 0
    assert "winograd: needs a kernel of 3x3, 1x3, 3x1, 1x5 or 5x1; got 1x1 (1x1)" in capsys.readouterr().out


def test_bench_lists_its_cases(capsys):
    assert main(["bench", "--cases", "list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(cases.CASES)


@pytest.mark.parametrize("value", [1e3, np.nan])
def test_bench_ends_with_1_on_one_wrong_element_and_times_it_not(value, tmp_path, spoiled, in_process, capsys):
    spoiled(value)
    saved = tmp_path / "bench.json"
    assert main([*TINY, "--backends", "im2col", "--json", str(saved)]) == 1
    said = capsys.readouterr()
    assert "im2col on tiny-8x16" in said.err and "wrong" in said.out
    entry = json.loads(saved.read_text(), parse_constant=pytest.fail)["entries"][0]
    assert not entry["right"] and entry["median_seconds"] is None


@pytest.mark.parametrize("text", ["", f"{tables.BEGIN}\n", f"{tables.END}\n{tables.BEGIN}\n"])
def test_a_readme_without_its_markers_stays_as_it_is(text, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    assert main([*TINY, "--backends", "im2col", "--json", "--readme", str(readme)]) == 2
    assert tables.END in capsys.readouterr().err and readme.read_text() == text


@pytest.mark.parametrize("text", ["[]", '{"schema": 0}', '{"schema": 1, "entries": [{}]}', "{"])
def test_a_file_that_is_no_report_is_refused(text, tmp_path, capsys):
    source = tmp_path / "bench.json"
    source.write_text(text)
    assert main(["bench", "--from", str(source)]) == 2
    assert "--from" in one_line(capsys)


@pytest.mark.parametrize(("mode", "top"), [("I;16", 65535), ("F", 1.0)])
def test_demo_stretches_deep_greys_instead_of_cutting_them_off(tmp_path, mode, top):
    from PIL import Image

    ramp = np.tile(np.linspace(0, top, 64), (48, 1))
    path = tmp_path / "deep.tiff"
    Image.fromarray(ramp.astype("uint16" if mode == "I;16" else "float32")).save(path)
    photo = demo_steps.load(str(path))
    np.testing.assert_allclose(photo[0, :, 0], np.linspace(0, 1, 64), atol=2 / 255)


def test_demo_refuses_a_picture_too_large_to_open(tmp_path, capsys):
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(png)
    assert main(["demo", str(tmp_path / "bomb.png")]) == 2
    assert "is no readable picture" in one_line(capsys)


def test_no_backends_at_all_is_bad_usage(capsys):
    assert main(["demo", "--backends", ","]) == 2
    assert "names none" in one_line(capsys)


def test_explain_refuses_absurd_channels(capsys):
    assert main(["explain", "ic99999999999999999999ih5oc1k3"]) == 2
    assert "ic=99999999999999999999 is more than" in one_line(capsys)


@pytest.mark.parametrize("option", ["--readme", "--json", "--report"])
def test_bench_looks_for_its_files_before_it_measures(option, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastconv.cli.bench._measure", None)
    assert main(["bench", option, str(tmp_path / "none" / "x")]) == 2
    assert f"{option}=" in one_line(capsys)


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -P -m fastconv bench --cases list | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
