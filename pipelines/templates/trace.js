"use strict";
// Shows and hides what is on the page; it writes no text of its own, so nothing a model wrote can become code.
(() => {
  const viewer = document.querySelector(".viewer");
  const reader = viewer.querySelector(".reader");
  const cards = new Map([...viewer.querySelectorAll("article.candidate")].map((card) => [card.id, card]));
  const nodes = new Map([...viewer.querySelectorAll("a.node")].map((node) => [node.getAttribute("href").slice(1), node]));

  function press(name, value) {
    for (const button of viewer.querySelectorAll(`button[data-${name}]`)) {
      button.setAttribute("aria-pressed", String(button.dataset[name] === value));
    }
  }

  function filter(which) {
    viewer.classList.toggle("only-path", which === "path");
    press("filter", which);
    if (which === "path" && !viewer.querySelector(".selected.chosen")) {
      const last = [...cards.values()].filter((card) => card.classList.contains("chosen")).pop();
      if (last) select(last.id);
    }
  }

  function mode(which) {
    reader.classList.toggle("list", which === "list");
    press("mode", which);
  }

  function select(id, { focus = false, quiet = false } = {}) {
    const card = cards.get(id);
    if (!card) return;
    if (!card.classList.contains("chosen")) filter("all");
    for (const [name, other] of cards) other.classList.toggle("selected", name === id);
    for (const [name, node] of nodes) {
      if (name === id) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
    if (nodes.has(id)) reveal(nodes.get(id));
    if (quiet) return;
    history.replaceState(null, "", `#${id}`);
    if (focus) card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  // Within the tree's own frame: the page stays where it is.
  function reveal(node) {
    const canvas = viewer.querySelector(".canvas");
    const frame = canvas.getBoundingClientRect();
    const box = node.getBoundingClientRect();
    if (box.right > frame.right) canvas.scrollLeft += box.right - frame.right + 8;
    else if (box.left < frame.left) canvas.scrollLeft -= frame.left - box.left + 8;
  }

  // Up to the parent, down to the child on the winning path or the first one, sideways within the row.
  function neighbour(node, key) {
    const id = node.getAttribute("href").slice(1);
    if (key === "ArrowUp") return nodes.get(node.dataset.parent);
    if (key === "ArrowDown") {
      const children = [...nodes.values()].filter((other) => other.dataset.parent === id);
      return children.find((other) => other.classList.contains("chosen")) || children[0];
    }
    const row = [...nodes.values()].filter((other) => top(other) === top(node));
    return row[row.indexOf(node) + (key === "ArrowRight" ? 1 : -1)];
  }

  function top(node) {
    return node.querySelector("circle").getAttribute("cy");
  }

  viewer.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const button = event.target.closest("button");
    if (link) {
      event.preventDefault();
      select(link.getAttribute("href").slice(1), { focus: link.classList.contains("jump") });
    } else if (button && button.dataset.filter) {
      filter(button.dataset.filter);
    } else if (button && button.dataset.mode) {
      mode(button.dataset.mode);
    }
  });

  viewer.addEventListener("keydown", (event) => {
    const node = event.target.closest("a.node");
    if (!node || !["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    const next = neighbour(node, event.key);
    if (!next || getComputedStyle(next).visibility === "hidden") return;
    next.focus();
    select(next.getAttribute("href").slice(1));
  });

  addEventListener("hashchange", () => select(location.hash.slice(1)));

  document.documentElement.classList.add("js");
  for (const part of viewer.querySelectorAll(".controls, .hint")) part.hidden = false;
  const asked = location.hash.slice(1);
  const chosen = [...cards.values()].filter((card) => card.classList.contains("chosen")).pop();
  if (cards.has(asked)) select(asked);
  else if (cards.size) select((chosen || [...cards.values()][0]).id, { quiet: true });
})();
