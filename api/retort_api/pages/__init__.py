"""The pages that people look at, one module a page."""

from __future__ import annotations

import importlib
import pkgutil

from retort_api.deps import Router


def routers() -> list[Router]:
    """Return the routes of all pages, and of the forms on them."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = (getattr(importlib.import_module(f"{__name__}.{name}"), "router", None) for name in names)
    return [router for router in found if isinstance(router, Router)]
