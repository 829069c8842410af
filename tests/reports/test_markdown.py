"""Names that somebody chose, read back by the Markdown library that TensorBoard shows texts with."""

from html.parser import HTMLParser

import markdown
import pytest

from drift_pl.reports.markdown import plain

NAMES = (
    *("![x](http://h/x.png)", "[a](javascript:alert(1))", "[a]: http://h/x", "<img src=x onerror=alert(1)>"),
    *("`code`", "**bold** *and not*", "_red_ and __blue__", "a & b &lt; c", "a \\*star\\*, a \\[link\\](x)"),
    *("# heading", "- item", "+ item", "> said", "pairwise_distance", "a * b", "end\\", "a\n# heading"),
)


class Read(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_and_does_nothing(name: str) -> None:
    """Catches in reports/markdown.py: brackets, stars, backticks, backslashes or opening underscores not escaped; HTML;
    a first character that begins a heading, a list or a quotation; a line break.
    """
    read = Read(markdown.markdown(f"- {plain(name)}"))
    assert read.tags == {"ul", "li"}
    assert read.text.strip() == " ".join(name.split())


def test_an_address_has_no_key_and_a_word_no_backslash() -> None:
    assert plain("http://h/x?key=secret") == "http://h/x?..."
    assert plain("pairwise_distance") == "pairwise_distance"
