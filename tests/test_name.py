"""The distribution is `fastpipe-vision`; PyPI has another `fastpipe`, where nothing may send anyone."""

from __future__ import annotations

import ast
import pickle
import re
import tomllib
from pathlib import Path

import pytest

import fastpipe
from fastpipe import MissingExtraError, NameClashError
from fastpipe.extras import EXTRAS, install_command
from fastpipe.installed import find_version

ROOT = Path(__file__).parent.parent
FOLDERS = ("fastpipe", "kernels", "train", "profiling", "docs", "benchmarks", "scripts", "tests", ".ci")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# An extra of that name; a pip command with that name as a requirement; its metadata.
OLD_FORMS = (
    re.compile(r"(?<![\w./-])fastpipe\\*\[(?![\"'\d])"),
    re.compile(r"pip3?[\"', ]+install\b[^|;&\n`]*?[\s\"'`]fastpipe(?![\w./-]|'s)"),
    re.compile(r"(?:version|distribution|metadata|requires|files)\(\s*[\"']fastpipe[\"']"),
)
SENDS_AWAY = (
    *('pip install "fastpipe[train]"', "pip install 'fastpipe[dali]' (CUDA 13)", "pip install fastpipe"),
    *("`fastpipe[cuda]` too", "needs fastpipe[wandb].", r"pip install 'fastpipe\[kornia\]'"),
    *("python -m pip install --upgrade fastpipe", "pip install -U 'fastpipe==0.1'", 'version("fastpipe")'),
    *('importlib.metadata.distribution("fastpipe")', "pip3 install timm fastpipe", "fastpipe[{extra}]"),
    *('["pip", "install", "fastpipe"]', '"pip install "\n    "fastpipe"'),
)
STAYS = (
    *('pip install ".[train]"', "pip uninstall fastpipe fastpipe-vision", "pip install -e /src/fastpipe"),
    *('rates["fastpipe"]', "fastpipe.DataLoader[int]", "pip install timm; fastpipe-train", "import fastpipe"),
    *("pip install fastpipe-vision", 'logging.getLogger("fastpipe")', "pip install . in fastpipe's checkout"),
)


def old_forms(text: str) -> list[str]:
    """What in `text` would install or ask for the other project; joined strings are read as one."""
    joined = re.sub(r"[\"']\s*\n\s*f?r?[\"']", "", text)
    return [found[0] for pattern in OLD_FORMS for found in pattern.finditer(joined)]


def pages() -> list[Path]:
    """Every text file of the repository; this one holds the forms as examples."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    binary = {".png", ".jpg", ".json", ".so", ".wandb"}
    return [path for path in sorted(files) if path.suffix not in binary and path != Path(__file__)]


@pytest.mark.parametrize("text", SENDS_AWAY)
def test_each_old_form_is_seen(text: str) -> None:
    assert old_forms(text)


@pytest.mark.parametrize("text", STAYS)
def test_what_is_right_is_left_alone(text: str) -> None:
    assert not old_forms(text)


def test_no_page_message_or_docstring_sends_anyone_to_the_other_project() -> None:
    found = pages()
    assert {"README.md", "pyproject.toml", "install", "errors.py", "install.md"} <= {
        path.name for path in found
    }
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}
    assert {name: forms for name, text in texts.items() if (forms := old_forms(text))} == {}


def test_the_distribution_is_ours_and_the_version_its_own() -> None:
    assert PROJECT["name"] == "fastpipe-vision"
    assert fastpipe.__version__ == PROJECT["version"]
    assert all(target.startswith("fastpipe.") for target in PROJECT["scripts"].values())


def test_the_packages_of_each_extra_are_those_of_the_project() -> None:
    def name(requirement: str) -> str:
        return re.split(r"[<>=\[;]", requirement)[0].strip()

    wanted = PROJECT["optional-dependencies"]
    assert set(wanted) - set(EXTRAS) == {"dev", "bench", "dali-cuda110"}
    for extra, packages in EXTRAS.items():
        assert [name(package) for package in packages] == [name(package) for package in wanted[extra]], extra
        pinned = {package for package in packages if package != name(package)}
        assert {package for package in pinned if "==" in package} <= set(wanted[extra])


def test_every_extra_that_an_error_names_has_its_command() -> None:
    """Also those in branches that no test reaches."""
    named = set()
    for folder in ("fastpipe", "train", "profiling"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "MissingExtraError":
                    named.add(ast.literal_eval(node.args[1]))
    assert {"train", "demo", "dali", "ffcv", "kornia", "onnx", "wandb", "mlflow"} <= named <= set(EXTRAS)
    said = str(MissingExtraError("timm", "train", "The model 'resnet18'"))
    assert "pip install timm jsonargparse tensorboard" in said
    assert install_command("cuda") == "pip install 'numba-cuda[cu13]' 'cuda-toolkit==13.0.*'"


def install(site: Path, name: str, version: str, *, command: str = "") -> None:
    """What pip leaves of a distribution in a folder, as far as metadata goes."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n", "utf-8")
    if command:
        (info / "entry_points.txt").write_text(f"[console_scripts]\n{command}\n", encoding="utf-8")


OURS = "fastpipe-train = fastpipe.train.cli:main"


def test_alone_it_is_found(tmp_path: Path) -> None:
    install(tmp_path / "site", "fastpipe-vision", "1.2", command=OURS)
    assert find_version([str(tmp_path / "site")], folder=str(tmp_path / "site" / "fastpipe")) == "1.2"
    assert find_version([str(tmp_path)], folder=str(tmp_path / "bare" / "fastpipe")) == "unknown"


def test_our_own_old_installs_are_no_clash(tmp_path: Path) -> None:
    install(tmp_path / "site", "fastpipe", "0.1.0", command=OURS)
    checkout = str(tmp_path / "checkout" / "fastpipe")
    assert find_version([str(tmp_path / "site")], folder=checkout) == "0.1.0"
    install(tmp_path / "site", "fastpipe-vision", "0.2.0", command=OURS)
    assert find_version([str(tmp_path / "site")], folder=checkout) == "0.2.0"


def test_an_empty_folder_that_pip_left_is_no_clash(tmp_path: Path) -> None:
    install(tmp_path / "site", "fastpipe-vision", "0.2.0", command=OURS)
    (tmp_path / "site" / "fastpipe-0.1.0.dist-info").mkdir()
    assert find_version([str(tmp_path / "site")], folder=str(tmp_path / "site" / "fastpipe")) == "0.2.0"


@pytest.mark.parametrize("editable", [False, True])
def test_the_other_project_in_the_same_place_is_refused(tmp_path: Path, editable: bool) -> None:
    site = tmp_path / "site"
    install(site, "fastpipe-vision", "0.2.0", command=OURS)
    install(site, "fastpipe", "0.0.1")
    folder = (tmp_path / "checkout" if editable else site) / "fastpipe"
    with pytest.raises(
        NameClashError, match=r"'fastpipe' 0\.0\.1 in .*pip uninstall fastpipe fastpipe-vision"
    ):
        find_version([str(site)], folder=str(folder))


def test_the_other_project_in_another_place_overwrites_nothing(tmp_path: Path) -> None:
    install(tmp_path / "venv", "fastpipe-vision", "0.2.0", command=OURS)
    install(tmp_path / "system", "fastpipe", "0.0.1")
    path = [str(tmp_path / "venv"), str(tmp_path / "system")]
    folder = tmp_path / "venv" / "fastpipe"
    assert find_version(path, folder=str(folder), imported=str(folder / "__init__.py")) == "0.2.0"
    with pytest.raises(NameClashError, match="system"):  # but it is in front
        find_version(path, folder=str(folder), imported=str(tmp_path / "system" / "fastpipe" / "__init__.py"))


def test_the_error_survives_a_worker() -> None:
    error = NameClashError("the distribution 'fastpipe' 0.0.1 in '/x'")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and isinstance(again, ImportError)
