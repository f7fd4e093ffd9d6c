"use strict";
// Values under the pointer, or under the arrow keys. The charts are whole without this.
for (const plot of document.querySelectorAll(".plot")) {
  const lines = JSON.parse(plot.parentElement.querySelector(".values").textContent);
  const area = plot.querySelector(".area");
  const places = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  let shown = [];
  let current = -1;

  const nearest = (sorted, x) => {
    let best = 0;
    for (let n = 1; n < sorted.length; n += 1) {
      if (Math.abs(sorted[n] - x) < Math.abs(sorted[best] - x)) best = n;
    }
    return best;
  };
  const add = (tag, classes, parent) => {
    const element = document.createElement(tag);
    element.className = classes;
    parent.append(element);
    return element;
  };
  const hide = () => {
    for (const element of shown) element.remove();
    shown = [];
  };
  const show = (place) => {
    hide();
    current = place;
    const x = places[place];
    const cursor = add("div", "cursor", area);
    const tip = add("div", "tip", area);
    tip.setAttribute("role", "status");
    cursor.style.left = `${x * 100}%`;
    shown = [cursor, tip];
    const heading = add("p", "", tip);
    for (const line of lines) {
      if (line.x.length === 0) continue;
      const point = nearest(line.x, x);
      if (Math.abs(line.x[point] - x) > 0.03) continue;
      const mark = add("div", `mark ${line.class}`, area);
      mark.style.left = `${line.x[point] * 100}%`;
      mark.style.bottom = `${line.y[point] * 100}%`;
      mark.style.marginBottom = "-4.5px";
      shown.push(mark);
      heading.textContent ||= line.at[point];
      const row = add("div", "", tip);
      add("i", line.class, row);
      add("b", "", row).textContent = line.text[point];
      if (lines.length > 1) row.append(` ${line.name}`);
    }
    if (x > 0.5) tip.style.right = `calc(${(1 - x) * 100}% + 12px)`;
    else tip.style.left = `calc(${x * 100}% + 12px)`;
  };

  plot.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    show(nearest(places, (event.clientX - box.left) / box.width));
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(Math.min(Math.max(current + steps[event.key], 0), places.length - 1));
  });
}

// A link into a closed run opens it. Printing opens the parts of each run that is open.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("section > details, .run[open] > details")) {
    details.open = true;
  }
});
