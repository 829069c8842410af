"""What stands at the top of the repository for its users: citation, forms, release check."""

import os
import re
from pathlib import Path

import yaml

import drift_pl

ROOT = Path(__file__).parent.parent
AUTHORS = ["Liu", "Li", "Sun", "Chen", "Bian", "Wang", "Dong", "Chen", "Wang"]
"""Of the paper, in its order."""


def test_the_citation_names_the_papers_authors_and_no_address_of_ours() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == drift_pl.__version__
    assert citation["authors"] == [{"name": "drift_pl contributors"}]
    assert [author["family-names"] for author in citation["preferred-citation"]["authors"]] == AUTHORS
    assert not {"url", "repository", "repository-code"} & citation.keys()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = re.search(r"author\s*=\s*\{(Liu.*?)\},\n\s*journal", readme, re.DOTALL)[1].split(" and ")
    assert [name.split(",")[0].strip() for name in re.sub(r"\s+", " ", " and ".join(names)).split(" and ")] == AUTHORS


def test_forms_are_yaml_with_questions() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= content.keys(), form
        ids = [part["id"] for part in content["body"]]
        assert len(ids) == len(set(ids)) > 1
    assert len(forms) == 2


def test_scripts_of_the_makefile_can_be_run() -> None:
    for name in re.findall(r"\.ci/[\w-]+", (ROOT / "Makefile").read_text(encoding="utf-8")):
        assert os.access(ROOT / name, os.X_OK), name
