"""FASTPIPE_REQUIRE: a part that was installed must have run, or the whole run is red."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
INI = """
[pytest]
markers =
    ffcv: a part
    dali: a part
    kornia: a part
    cuda_gates: a part
    turbo_built: a part
"""
GOOD = "import pytest\n@pytest.mark.dali\ndef test_a(): pass\n"
SKIPS = "import pytest\n@pytest.mark.dali\n@pytest.mark.skipif(True, reason='REASON')\ndef test_b(): pass\n"
SKIPS_ITSELF = "import pytest\npytest.importorskip('no_such_package', reason='no dali here')\n"
IN_THE_BODY = "import pytest\n@pytest.mark.dali\ndef test_b(): pytest.skip('REASON')\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs the given files under our conftest with FASTPIPE_REQUIRE=required."""

    def _run(required: str, *arguments: str, **files: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        pytester.makeini(INI)
        pytester.makepyfile(**files)
        monkeypatch.setenv("FASTPIPE_REQUIRE", required)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-ra", *arguments)

    return _run


def test_a_part_that_ran_is_counted_and_passes(run):
    done = run("dali", test_one=GOOD)
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["dali: 1 passed, 0 failed, 0 skipped"])


@pytest.mark.parametrize(
    "skipping",
    [SKIPS, IN_THE_BODY, SKIPS_ITSELF],
    ids=["mark", "body", "whole file"],
)
def test_a_skip_of_a_required_part_is_a_failure(run, skipping):
    done = run("dali", test_one=GOOD, test_two=skipping)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["FASTPIPE_REQUIRE: dali: * skipped"])


def test_without_the_requirement_the_skip_is_allowed_and_its_reason_printed(run):
    done = run("", test_one=GOOD, test_two=SKIPS)
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["dali: 1 passed, 0 failed, 1 skipped", "SKIPPED*: REASON"])


@pytest.mark.parametrize("arguments", [(), ("-m", "not dali")], ids=["other", "deselected"])
def test_a_required_part_without_a_test_is_a_failure(run, arguments):
    files = {"test_one": "def test_other(): pass"} if not arguments else {"test_one": GOOD}
    done = run("dali", *arguments, **files)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["FASTPIPE_REQUIRE: dali: no test of it passed"])


def test_optional_photos_stay_optional(run):
    reason = "FASTPIPE_TEST_DATA names no folder"
    done = run("dali", test_one=GOOD, test_two=SKIPS.replace("REASON", reason))
    assert done.ret == pytest.ExitCode.OK


def test_a_file_named_after_a_part_carries_its_mark(run):
    done = run("ffcv", test_ffcv_source="def test_a(): pass")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["ffcv: 1 passed, 0 failed, 0 skipped"])


def test_an_unknown_part_is_a_usage_error(run):
    assert run("fvcc", test_one=GOOD).ret == pytest.ExitCode.USAGE_ERROR
