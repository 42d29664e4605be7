"use strict";
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const AT_ONCE = 20;
  const field = (name) => form.elements[name]?.value ?? "";
  const count = document.getElementById("shown");
  const others = document.getElementById("others");
  const further = document.getElementById("further");
  const packed = document.getElementById("packed");
  const drawn = [...document.querySelectorAll(".example")].map((node) => ({
    node,
    text: node.textContent.toLowerCase(),
    kind: node.dataset.kind,
    outcomes: node.dataset.outcomes.split(" "),
    scores: node.dataset.scores.split(" ").map(Number),
  }));
  const total = drawn.length + Number(packed?.dataset.count ?? 0);
  let loading = null; // a promise of the packed examples, once somebody asks for them
  let matching = [];
  let turn = 0;

  const load = async () => {
    const bytes = Uint8Array.from(atob(packed.content.textContent), (c) => c.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const { models, examples } = JSON.parse(await new Response(plain).text());
    return examples.map((e) => ({ ...e, models, scores: e.opinions.map((o) => o.score) }));
  };

  const textOf = (e) => {
    if (e.text === undefined) {
      const said = e.opinions.flatMap((o) => o.answers.flat());
      const parts = [e.headline, e.kind, e.id, e.question, ...e.candidates.flat(), e.gold, ...said];
      e.text = parts.filter(Boolean).join("\n").toLowerCase();
    }
    return e.text;
  };

  const fits = (e) => {
    const [outcome, model, words] = [field("outcome"), field("model"), field("words")];
    const flipped = () => e.scores[model] !== e.scores[field("against")];
    return (
      (!outcome || (outcome === "flipped" ? flipped() : e.outcomes.includes(`${outcome}:${model}`))) &&
      (!field("kind") || e.kind === field("kind")) &&
      (!words.trim() || textOf(e).includes(words.toLowerCase().trim()))
    );
  };

  // Only as text, never as markup: these are words of models.
  const make = (tag, name, ...content) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...content);
    return node;
  };

  const mark = ([said, error], e) => {
    if (error) return make("span", "mark wrong", `✗ ${error}`);
    if (said === null) return make("span", "mark wrong", "✗ no valid answer");
    if (said === e.gold) return make("span", "mark right", `✓ ${said}`);
    return e.labels ? make("span", "mark wrong", `✗ ${said}`) : make("span", "mark", said);
  };

  const place = (e, n) => (e.opinions[0].answers.length === 2 ? ["A first", "B first"][n] : "");

  const table = (e) => {
    const heads = e.opinions[0].answers.map((_, n) => place(e, n) || "Answer");
    const row = make("tr", "", ...["Model", ...heads, "Score", "Reward"].map((h) => make("th", "", h)));
    const rows = e.opinions.map((o, n) =>
      make(
        "tr",
        "",
        make("th", `key ${e.models[n].style}`, e.models[n].title),
        ...o.answers.map((answer) => make("td", "", mark(answer, e))),
        make("td", "n", `${(100 * o.score).toFixed(1)}%`),
        make("td", "n", o.reward === null ? "–" : o.reward.toFixed(3).replace("-", "−")),
      ),
    );
    return make("table", "", make("thead", "", row), make("tbody", "", ...rows));
  };

  const draw = (e) => {
    const options = e.candidates.map(([letter, text]) => {
      const item = make("li", letter === e.gold ? "gold" : "", make("b", "", letter), text);
      if (letter === e.gold) item.append(make("span", "tag", "the gold answer"));
      return item;
    });
    const raw = e.opinions.flatMap((o, m) =>
      o.answers.flatMap(([, , text], n) => [
        make("h5", "", [e.models[m].title, place(e, n)].filter(Boolean).join(", ")),
        make("pre", "", text),
      ]),
    );
    const heading = make("h4", "", `${e.headline} `, make("span", "", `${e.kind} · ${e.id}`));
    const parts = [heading, make("p", "asked", e.question)];
    if (options.length) parts.push(make("ul", "responses", ...options));
    if (!e.candidates.some(([letter]) => letter === e.gold)) {
      parts.push(make("p", "about", `Gold answer: ${e.gold}`));
    }
    const wrote = make("details", "raw", make("summary", "", "What each model wrote"), ...raw);
    return make("article", "example", ...parts, table(e), wrote);
  };

  const drawMore = () => {
    const at = others.childElementCount;
    others.append(...matching.slice(at, at + AT_ONCE).map(draw));
    further.hidden = others.childElementCount === matching.length;
  };

  const update = async () => {
    const mine = ++turn;
    if (packed) {
      loading ??= load();
      const examples = await loading;
      if (mine !== turn) return; // the filter has changed meanwhile
      matching = examples.filter(fits);
      others.replaceChildren();
      drawMore();
    }
    let shown = matching.length;
    for (const e of drawn) {
      e.node.hidden = !fits(e);
      shown += e.node.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${total}`;
  };

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  if (further) {
    further.hidden = false;
    further.addEventListener("click", () => (loading ? drawMore() : update()));
  }
  form.hidden = false;
  count.textContent = `${total} of ${total}`;
})();
