"""The sections of the report on a run. Each is a module of this package that defines a `SECTION`."""

from importlib import import_module

from ddl.reports.sections.section import Section

SECTIONS: tuple[Section, ...] = tuple(
    import_module(f"{__name__}.{name}").SECTION
    for name in (
        "summary", "confirmation", "race", "results", "curves", "tradeoffs", "parallel", "comparisons", "budget", "trials", "failures",
        "figures", "samples", "plan", "reproduction",
    )
)  # fmt: skip
"""All sections in the order of the page. This is their only registration."""
