// Keys for people who know them. Every page works without this file.
"use strict";

const rows = () => [...document.querySelectorAll("a.row")];
const follow = (selector) => document.querySelector(selector)?.click();

function move(step) {
  const all = rows();
  if (!all.length) return;
  const here = all.indexOf(document.activeElement);
  const next = here < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(here + step, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

function help() {
  const keys = document.querySelector(".keys");
  keys.open = !keys.open;
  if (keys.open) keys.querySelector("summary").focus();
}

const actions = {
  j: () => move(1),
  k: () => move(-1),
  n: () => follow("[rel=next]"),
  p: () => follow("[rel=prev]"),
  u: () => follow("[data-up]"),
  "/": () => document.querySelector("[data-search]")?.focus(),
  "?": help,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
