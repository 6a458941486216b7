"""Logging in to the pages with a token, and out again."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import redirect, render_template, request
from werkzeug.wrappers import Response

from resubmit_api.auth import caller, open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.views.context import parts

__all__ = ["blueprint"]

blueprint = APIBlueprint("session", __name__, tag="Session")


@blueprint.get("/login")
@open_to(Role.ANYONE)
@blueprint.doc(hide=True)
def form() -> Response | str:
    """The page that asks for a token."""
    place = _place(request.args.get("next"))
    if caller() is not None:
        return redirect(place, 303)
    return render_template("login.html", next=place, refused=False)


@blueprint.post("/login")
@open_to(Role.ANYONE, form=True)
@blueprint.doc(hide=True)
def login() -> Response | tuple[str, int]:
    """Exchange a token for a cookie that ends by itself."""
    place = _place(request.form.get("next"))
    if parts().guard.login(request.form.get("token", "").strip()) is None:
        return render_template("login.html", next=place, refused=True), 401
    return redirect(place, 303)


@blueprint.post("/logout")
@open_to(Role.ANYONE, form=True)
@blueprint.doc(hide=True)
def logout() -> Response:
    """Take the cookie back."""
    parts().guard.logout()
    return redirect("/login", 303)


def _place(given: str | None) -> str:
    """An address of ours to go on at; what a link may have put in its place is left out."""
    place = given or "/"
    # Browsers take a backslash for a slash, and drop control characters, so that /\tx would lead away.
    plain = place.isprintable() and "\\" not in place
    return place if plain and place[:1] == "/" and place[:2] != "//" else "/"
