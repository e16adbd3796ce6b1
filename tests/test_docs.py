"""README and docs/: what they say can be typed, leads somewhere, and is what the code says."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import error_messages
import helpers
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS_OF = [path for path in PAGES if path.name not in ("python.md",)]

pytest_plugins = ["cli_fixtures", "synthetic_video"]

EXPLAINED = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "trouble.md").read_text("utf-8"), re.M)
"""Words of the messages that have a heading on the page of errors."""


REPOSITORY = re.search(r'^Repository = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]
RAW = REPOSITORY.replace("github.com", "raw.githubusercontent.com")


def relative(path):
    return path.relative_to(ROOT).as_posix()


def fenced(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(text):
    """Every line of an indented or fenced block that calls gpen, what explains it at its end left out."""
    blocks = [line[4:] for line in re.findall(r"^    \S.*$", text, re.M)]
    blocks += [
        line for language in ("sh", "bash", "console") for block in fenced(text, language) for line in block.splitlines()
    ]
    for line in blocks:
        typed = re.sub(r"^\.venv/bin/", "", line.strip())
        if typed.startswith("gpen "):
            yield re.split(r"\s{3,}|\s+#\s", typed)[0]


def plain(command):
    """The command as one would type it: no brackets for what may be left out, one of what is to be chosen from."""
    command = command.replace("gpen restore ... ", "gpen restore INPUT -o OUT ")
    command = re.sub(r"\(([^()|]*)\|[^()]*\)", r"\1", command)  # (-o OUT | --in-place)
    command = re.sub(r"\[[^\]]*\]", "", command)
    return re.sub(r"\.\.\.", "", re.sub(r"(bash|png)\|\S+", r"\1", command))


TYPED = [(path, one) for path in COMMANDS_OF for one in dict.fromkeys(commands(path.read_text("utf-8")))]


@pytest.mark.parametrize(("path", "command"), TYPED, ids=lambda one: one if isinstance(one, str) else relative(one))
def test_every_command_can_be_typed(path, command, capsys):
    from gpen_core.cli.main import make_parser

    words = shlex.split(plain(command))[1:]
    piped = words.index("|") if "|" in words else len(words)
    redirected = next((n for n, word in enumerate(words) if word.startswith(">")), len(words))
    words = words[: min(piped, redirected)]
    try:
        make_parser().parse_args(words)
    except SystemExit as end:
        assert end.code == 0, f"{command}: {capsys.readouterr().err}"


def test_commands_were_found():
    """Else nothing was held against the parser."""
    assert len(TYPED) > 50 and {"README.md", "docs/cli.md", "docs/guides.md", "docs/video.md"} <= {
        relative(path) for path, _ in TYPED
    }


def test_every_option_that_is_named_is_one():
    import reference_pages

    from gpen_core.cli.main import make_parser

    known = {
        flag for *_, command in reference_pages.commands_of(make_parser()) for flag in reference_pages.flags_of(command)
    }
    others = {
        "--api",
        "--api-auth",
        "--use-cpu",
        "--cpu",
        "--cors-allow-origins",
        "--cors-origins",
        "--gpen-models-path",
        "--no-deps",
        "--force-reinstall",
    }
    pages = [ROOT / "README.md", *(path for path in (ROOT / "docs").glob("*.md") if not path.stem.endswith("benchmarks"))]
    lines = [line for path in pages for line in path.read_text("utf-8").splitlines() if "python benchmarks/" not in line]
    named = {flag for line in lines for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", line)}
    assert len(named) > 50 and named - known - others == set()


def test_each_field_of_a_report_is_explained():
    from gpen_core.pipeline.report import ImageOutcome

    face = helpers.make_face((50, 50), 40)
    outcome = ImageOutcome(
        SimpleNamespace(source="a", target="b"), "failed", OSError(), (8, 8), (face,), (16, 32), ("note",)
    )
    image = outcome.to_json()
    text = (ROOT / "docs" / "batch.md").read_text("utf-8").partition("## Read the report")[2].partition("\n## ")[0]
    assert len(image["faces"][0]) > 9 and {*image, *image["faces"][0]} - set(re.findall(r"`(\w+)`", text)) == set()


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_every_snippet_of_python_compiles_and_names_what_there_is(path):
    import gpen_core

    for snippet in fenced(path.read_text("utf-8"), "python"):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and node.module == "gpen_core":
                assert all(hasattr(gpen_core, alias.name) for alias in node.names), snippet


def test_the_page_of_python_runs_as_printed(tmp_path, monkeypatch, astronaut):
    """In the order of the page, on a photo of that name."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "scan.tif", "photos/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(astronaut).save(tmp_path / name)
    face = helpers.make_face((224, 118), 90)
    own = helpers.restorer(helpers.red_weights(256), [face])
    monkeypatch.setattr("gpen_core.FaceRestorer.load", lambda *names, **options: own)
    names = {"__name__": "example"}
    for snippet in fenced((ROOT / "docs" / "python.md").read_text("utf-8"), "python"):
        exec(snippet, names)
        if "answer" in names:
            data = (tmp_path / "photo.jpg").read_bytes()
            assert asyncio.run(names.pop("answer")(data)).startswith(b"\x89PNG")
    names["load"]()
    names["restore"](tmp_path / "photos" / "a.jpg")
    assert (tmp_path / "restored.jpg").exists() and (tmp_path / "restored" / "a.jpg").exists()


def anchors(path):
    """As GitHub and mkdocs make them of headings."""
    for heading in re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "", heading).lower())
        yield words.strip().replace(" ", "-")
    yield from re.findall(r'<a id="(.*?)">', path.read_text("utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_every_link_inside_leads_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"|href=\"([^\"]+)\"", text)
    for link in map("".join, links):
        inside = re.sub(f"^({re.escape(REPOSITORY)}/(blob|tree)|{re.escape(RAW)})/main/", f"{ROOT}/", link)
        if re.match(r"https?:|mailto:", inside):
            continue
        name, _, anchor = inside.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in set(anchors(target)), link


def test_the_readme_is_a_beginning():
    """A newcomer sees an image and the ways in; the rest is in docs/."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) < 120 and text.index("![") < 600
    assert all(f"docs/{page}.md" in text for page in ("a1111", "comfyui", "cli", "python", "guides", "trouble", "faq"))


def test_the_readme_can_be_read_on_a_package_index():
    """There, a relative link leads nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 10 and all(link.startswith("https://") for link in links)


def test_the_repositorys_address_is_that_of_pyproject():
    """Wherever a page says it, as a link, for `git clone` or for pip."""
    pages = [path for path in PAGES if path.name not in ("CHANGELOG.md",)]
    owned = {
        found
        for path in pages
        for found in re.findall(r"github(?:usercontent)?\.com/([\w-]+/sd-gpen)\b", path.read_text("utf-8"))
    }
    assert owned == {REPOSITORY.removeprefix("https://github.com/")}


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_a_block_of_commands_holds_nothing_else(path):
    """A page's copy button takes the whole block, so a remark beside a command would be typed, too."""
    blocks = [
        line[4:]
        for line in re.findall(r"^    \S.*$", re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.S | re.M), re.M)
    ]
    assert [line for line in blocks if line.startswith("gpen ") and re.search(r"\S {3,}\S", line)] == []


def test_every_page_of_the_documentation_is_in_its_navigation():
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}


def test_messages_that_trouble_explains_are_in_the_sources():
    sources = [path for folder in ("gpen_core", "nodes", "scripts") for path in (ROOT / folder).rglob("*.py")]
    said = "".join(path.read_text("utf-8") for path in sources)
    said = re.sub(r"\"\s*f?\"", "", said)  # one text over several lines
    assert len(EXPLAINED) >= 12
    assert [one for one in EXPLAINED if one not in said] == []


def test_each_error_message_is_explained_or_explains_itself():
    """A new message gets a heading in docs/trouble.md. If it says what to do by itself, it goes into the list instead."""
    listed = set((ROOT / "tests" / "data" / "self_explaining_errors.txt").read_text("utf-8").splitlines())
    others = {text for text in error_messages.messages() if not any(words in text for words in EXPLAINED)}
    assert (others - listed, listed - others) == (set(), set())


def test_the_reference_is_what_the_code_says(tmp_path, monkeypatch):
    import reference_pages

    pydantic = pytest.importorskip("pydantic")
    pytest.importorskip("fastapi")
    made = reference_pages.pages(tmp_path, monkeypatch)
    if pydantic.VERSION < "2":  # it describes fields in other words
        made.pop("http.md"), made.pop("options.md")
    for name, text in made.items():
        assert (reference_pages.PAGES / name).read_text("utf-8") == text, f"{name} is of older code: run `make reference`"


# The guides, run


@pytest.fixture(scope="session")
def carried(tmp_path_factory, detector_weights):
    """A models folder with hand-made networks under the released names; nobody vouches for a .safetensors."""
    folder = tmp_path_factory.mktemp("guides") / "carried"
    small = helpers.identity_weights(256)
    files = {f"GPEN-BFR-{size}.safetensors": helpers.identity_weights(size) for size in (256, 512)}
    files |= {"my-gpen.pth": small, "detection_Resnet50_Final.safetensors": detector_weights}
    files[helpers.DETECTOR_FILE] = detector_weights
    helpers.write_weights(folder, files)
    return folder


GUIDES = list(dict.fromkeys(commands((ROOT / "docs" / "guides.md").read_text("utf-8"))))
GUIDES += list(dict.fromkeys(commands((ROOT / "docs" / "how-it-works.md").read_text("utf-8"))))
STAND_INS = {
    "--model": "gpen-bfr-256",  # hundreds of megabytes fewer
    "--detector": "retinaface_mobile0.25",
    "--device": "cpu",
    "--mask-type": "feather",
}


@pytest.fixture
def desk(tmp_path, portrait, monkeypatch, carried):
    """A folder as the guides suppose it: photographs, a video, and weights that were carried along."""
    import video_files

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPEN_MODELS_DIR", str(carried))
    small = Image.fromarray(portrait)
    for name in ("photo.jpg", "old.png", "group.jpg", "group.png", "swapped.png", "photos/a.jpg", "photos/deeper/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        small.save(tmp_path / name)
    Image.fromarray(255 - portrait).save(tmp_path / "before.png")
    (tmp_path / "carried").symlink_to(carried, target_is_directory=True)
    return video_files


@pytest.mark.slow
@pytest.mark.parametrize("command", GUIDES)
def test_the_guides_commands_run(command, gpen, desk, tmp_path):
    words = shlex.split(command)[1:]
    if words[0] == "download":
        pytest.skip("downloads are tested against servers of our own")
    if words[0] == "video":
        pytest.importorskip("av")
        film(tmp_path / "video.mp4")
    if words[0] == "report":
        gpen("restore", "photos/", "-o", "restored/", "--report", "run.jsonl", "--model", "gpen-bfr-256", *DETECTOR)
    taken = {word for word in words if word.startswith("--")}
    if words[0] in ("restore", "video", "explain", "compare", "detect"):
        for option, value in STAND_INS.items():
            knows = option not in ("--model", "--mask-type") or words[0] in ("restore", "video", "explain")
            wanted = option != "--model" or not {"--model"} & taken or "gpen-bfr-2048" in words or "auto" in words
            if knows and wanted and (option not in taken or option == "--model"):
                words += [option, value]
    words = [re.sub("gpen-bfr-(512|1024)", "gpen-bfr-256", word) for word in words]
    words = [re.sub("^0,2-4$", "0", word) for word in words]  # the group here has one face
    ran = gpen(*words)
    assert ran.status == 0, ran.err
    outputs = [words[n + 1] for n, word in enumerate(words) if word in ("-o", "--report")]
    assert all((tmp_path / output).exists() for output in outputs)


DETECTOR = ("--detector", "retinaface_mobile0.25", "--device", "cpu")


def film(path):
    """Six frames with a face."""
    import av
    import numpy as np

    picture = np.asarray(Image.open("photo.jpg"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


NAMED_PATH = re.compile(r"(?<![\w/.-])(?:tests|gpen_core|nodes|scripts|benchmarks)/[\w/*-]+(?:\.\w+)*")
BARE_MODULE = re.compile(r"`(\w+\.py)`")


def test_files_that_pages_docstrings_and_comments_name_exist():
    """A page that says which test holds a promise is of no use when that test has moved."""
    texts = [path for path in PAGES if path.name != "CHANGELOG.md"]
    code = [
        path for folder in ("tests", "gpen_core", "nodes", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {(relative(path), name) for path in [*texts, *code] for name in NAMED_PATH.findall(path.read_text("utf-8"))}
    gone = {(page, name) for page, name in named if not any(any(ROOT.glob(name + end)) for end in ("", ".py"))}
    modules = {path.name for path in [*code, *ROOT.glob("*.py")]}
    gone |= {
        (relative(path), name)
        for path in texts
        for name in BARE_MODULE.findall(path.read_text("utf-8"))
        if name not in modules
    }
    assert len(named) > 50 and gone == set()
