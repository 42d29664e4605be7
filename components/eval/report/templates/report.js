"use strict";
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const examples = [...document.querySelectorAll(".example")];
  const texts = examples.map((e) => e.textContent.toLowerCase());
  const count = document.getElementById("shown");
  const update = () => {
    const outcome = form.elements.outcome.value;
    const kind = form.elements.kind.value;
    const words = form.elements.words.value.toLowerCase().trim();
    let shown = 0;
    examples.forEach((e, i) => {
      const fits =
        (!outcome || e.dataset.outcomes.split(" ").includes(outcome)) &&
        (!kind || e.dataset.kind === kind) &&
        (!words || texts[i].includes(words));
      e.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    count.textContent = `${shown} of ${examples.length}`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
})();
