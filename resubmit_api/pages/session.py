"""Login to the pages with a token, and logout."""

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
    """The login page."""
    place = _place(request.args.get("next"))
    if caller() is not None:
        return redirect(place, 303)
    return render_template("login.html", next=place, refused=False)


@blueprint.post("/login")
@open_to(Role.ANYONE, form=True)
@blueprint.doc(hide=True)
def login() -> Response | tuple[str, int]:
    """Exchange a token for a cookie that expires."""
    place = _place(request.form.get("next"))
    if parts().guard.login(request.form.get("token", "").strip()) is None:
        return render_template("login.html", next=place, refused=True), 401
    return redirect(place, 303)


@blueprint.post("/logout")
@open_to(Role.ANYONE, form=True)
@blueprint.doc(hide=True)
def logout() -> Response:
    """Delete the cookie."""
    parts().guard.logout()
    return redirect("/login", 303)


def _place(given: str | None) -> str:
    """The local address to continue at; foreign addresses in a link are ignored."""
    place = given or "/"
    # Browsers read a backslash as a slash and drop control characters, so /\tx would lead to another site.
    plain = place.isprintable() and "\\" not in place
    return place if plain and place[:1] == "/" and place[:2] != "//" else "/"
