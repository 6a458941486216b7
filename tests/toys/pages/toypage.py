"""A page with an entry of the navigation."""

from __future__ import annotations

from flask import Blueprint, render_template

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.pages.common import Link, new_pages

__all__ = ["blueprint"]

_LINK = Link(35, "toys", "Toys", "pages_toys.toys")

blueprint: Blueprint = new_pages("pages_toys", __name__, _LINK)


@blueprint.get("/toys")
@open_to(Role.OPERATOR)
def toys() -> str:
    return render_template("toypage.html", toys=["ball"])
