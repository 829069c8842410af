"""A hook of MkDocs: links from the docs to files of the repository that are outside of `docs/`.

On a code host such a link opens the file. The site has no such page: the link leads to the repository if its address is
known (`repo_url` in mkdocs.yml), and is plain text otherwise. A file that does not exist is a warning, which ends the
strict build.
"""

import logging
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>(?:\.\./)+[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.hooks.source_links")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page's text with every link that leaves `docs/` replaced."""
    docs = Path(config["docs_dir"])

    def replaced(link: re.Match[str]) -> str:
        target = (docs / page.file.src_uri).parent.joinpath(link["target"]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            log.warning("%s: %s does not exist", page.file.src_uri, link["target"])
        if not config["repo_url"]:
            return link["text"]
        return f"[{link['text']}]({config['repo_url'].rstrip('/')}/blob/main/{target.relative_to(docs.parent)})"

    return LINK.sub(replaced, markdown)
