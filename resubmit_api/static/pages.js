// What htmx cannot do: confirm, copy, remove a line, show the value of the slider, announce the new state of a job,
// and report that the service is gone.
"use strict";

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) copyFrom(copy);
  const remove = event.target.closest("[data-remove]");
  if (remove) removeLine(remove);
});

document.addEventListener("input", (event) => {
  const input = event.target.closest("[data-shows]");
  if (input) showPace(input);
});

document.addEventListener("htmx:afterSettle", (event) => {
  announce();
  const notice = document.getElementById("notice");
  if (event.target === notice) notice.scrollIntoView({ block: "center" });
  else if (event.target.id === "job" && event.detail.requestConfig?.verb === "post") notice.replaceChildren();
  // A button that was pressed may be gone with the state it belonged to.
  if (event.target.id === "job" && document.activeElement === document.body) event.target.focus({ preventScroll: true });
});

// What refreshes itself leaves alone what somebody is at.
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target;
  if (!part.matches("[data-calm]")) return;
  const busy = part.contains(document.activeElement) || part.querySelector("details[open]")
    || (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));
  if (busy) event.preventDefault();
});

// A form that was sent once is not sent again by an impatient second click.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) {
    event.preventDefault();
    return;
  }
  setTimeout(() => wait(event.target, true));
});
document.addEventListener("htmx:afterRequest", (event) => wait(event.detail.elt, false));
// Who comes back by the browser's button finds the page as it was left.
window.addEventListener("pageshow", () => document.querySelectorAll("form").forEach((form) => wait(form, false)));

function wait(form, busy) {
  if (!form.matches("form[method=post]")) return;
  for (const button of form.querySelectorAll("button")) button.disabled = busy;
  form.toggleAttribute("data-busy", busy);
}

// An answer to what was replaced meanwhile is of no use, and htmx would fail to find where to put it.
document.addEventListener("htmx:beforeSend", (event) => {
  const { xhr, elt } = event.detail;
  const load = xhr.onload;
  xhr.onload = () => { if (elt.isConnected) load.call(xhr); };
});

// Figures that no longer come must not look like those that do not change.
for (const name of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(name, () => lose(true));
document.addEventListener("htmx:afterOnLoad", () => lose(false));

function lose(lost) {
  document.getElementById("lost").hidden = !lost;
}

async function copyFrom(button) {
  const code = button.closest(".copyable").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    tell("Copied");
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(code);
    tell("Selected; copy it with the keyboard");
  }
}

function removeLine(button) {
  const line = button.closest("li");
  const form = line.closest("form");
  const next = line.nextElementSibling || line.previousElementSibling;
  if (next) {
    line.remove();
    next.querySelector("input").focus();
  } else {
    for (const input of line.querySelectorAll("input")) input.value = "";
  }
  form.dispatchEvent(new Event("removed"));
}

// The slider is logarithmic, so that ten and a million messages a second are both in reach; its end is no limit.
function showPace(slider) {
  const unlimited = slider.value === slider.max;
  const rate = Math.round(10 ** Number(slider.value));
  const figures = 10 ** Math.max(0, Math.floor(Math.log10(rate)) - 1);
  const round = Math.round(rate / figures) * figures;
  document.getElementById(slider.dataset.shows).value = unlimited ? "" : round;
  slider.setAttribute("aria-valuetext", unlimited ? "no limit" : `${round.toLocaleString("en")} messages a second`);
}

let announced = "";
function announce() {
  const place = document.querySelector("[data-announce]");
  if (!place || place.dataset.announce === announced) return;
  if (announced) tell(place.dataset.announce);
  announced = place.dataset.announce;
}

function tell(text) {
  document.getElementById("announced").textContent = text;
}
document.addEventListener("DOMContentLoaded", announce);
