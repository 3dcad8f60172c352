"""The pages are true: examples run, links lead somewhere, the reference is whole, the pictures are drawn."""

import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv

HOME = Path(__file__).parents[1]
PAGES = sorted(p.relative_to(HOME).as_posix() for p in [*HOME.glob("*.md"), *HOME.glob("docs/**/*.md")])
FENCE = re.compile(r"^```.*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"^\.\. auto(?:function|class|exception|data):: *(\S+)", re.MULTILINE)


def text_of(page):
    return (HOME / page).read_text("utf-8")


@pytest.mark.parametrize("page", [p for p in PAGES if ">>>" in text_of(p)])
def test_examples_on_the_page_are_true(page):
    plain = FENCE.sub("", text_of(page))  # the closing fence would count as output
    session = doctest.DocTestParser().get_doctest(plain, {}, page, page, 0)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(session, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_python_blocks_of_the_readme_run(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    code = re.sub(r"^.*\.load_state\(.*$", "", "\n".join(blocks), flags=re.MULTILINE)  # a file of the reader's
    exec(compile(code, "README.md", "exec"), {})
    assert len(blocks) >= 2 and "cython" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_lead_somewhere(page):
    pictures = set(load("pictures").PICTURES)
    for target in LINK.findall(text_of(page)):
        if "://" not in target:
            path = (HOME / page).parent / target
            assert path.exists() or (path.parent.name == "pictures" and path.name in pictures), target


def test_every_picture_is_shown():
    shown = set(re.findall(r"\(pictures/([^)]+)\)", text_of("docs/tutorial.md")))
    assert shown == set(load("pictures").PICTURES)


def test_every_picture_has_a_description():
    assert all(len(said) > 20 for said in re.findall(r"!\[([^\]]*)\]", text_of("docs/tutorial.md")))


def public_names():
    """What `docs/versions.md` promises: each name with its home."""
    for module in ("fastconv", "fastconv.grad", "fastconv.nn"):
        for name in importlib.import_module(module).__all__:
            if not inspect.ismodule(getattr(importlib.import_module(module), name)):
                yield f"{module}.{name}"


def test_reference_has_every_public_name_once():
    named = [name for page in PAGES for name in NAMED.findall(text_of(page)) if page.startswith("docs/reference/")]
    assert sorted(named) == sorted(set(named)), "a name stands twice"
    missing = set(public_names()) - set(named)
    assert not missing, f"not in docs/reference: {sorted(missing)}"


def test_reference_names_nothing_that_is_gone():
    for page in PAGES:
        for name in NAMED.findall(text_of(page)):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), f"{page}: {name}"


def load(name):
    """A module of the docs folder, by path."""
    sys.path.insert(0, str(HOME / "docs"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(HOME / "docs"))


@pytest.mark.slow
def test_one_command_draws_the_pictures(tmp_path):
    command = [sys.executable, str(HOME / "docs" / "pictures.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == set(load("pictures").PICTURES)
    assert all(p.stat().st_size > 2000 for p in tmp_path.iterdir())


@pytest.mark.slow
def test_one_command_builds_the_pages_without_a_warning(tmp_path):
    missing = [name for name in ("sphinx", "myst_parser", "furo") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; run: pip install 'fastconv[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(HOME / "docs"), str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fetched = re.compile(r"<(?:script|img|link)[^>]+(?:src|href)=\"https?://")
    for page in ("index", "tutorial", "versions", "performance", "reference/convolution"):
        html = (tmp_path / "site" / f"{page}.html").read_text("utf-8")
        assert not fetched.search(html), f"{page} fetches from the network"
    assert fastconv.__version__ in (tmp_path / "site" / "index.html").read_text("utf-8")
