"""Pages for a browser: one file each, with style, script and pictures inside, which loads nothing.

`web/` is what all pages share and the layout of each. `of_run.py` makes the page of one run. The page of a
whole report is made in report/formats/html.py.
"""

from pathlib import Path

WEB = Path(__file__).parent / "web"


def render(layout: str, **values) -> str:
    """A page as text. Every value is escaped where it is shown.

    Args: layout, a file of `web/`; values, what it shows
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not every run leaves a page
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(WEB),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["inside"] = lambda name: Markup((WEB / name).read_text(encoding="utf-8"))
    return environment.get_template(layout).render(**values)
