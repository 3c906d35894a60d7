// Steps through every drawing on the page. All of its text is there already: this shows, of what
// has data-from (and data-to), what is there after step k of backward.
for (const root of document.querySelectorAll(".tinynet-drawing:not([data-ready])")) {
  root.dataset.ready = "";
  const last = Number(root.dataset.steps);
  const timed = root.querySelectorAll("[data-from]");
  const stepped = root.querySelectorAll("[data-step]");
  const scroll = root.querySelector(".scroll");
  const slider = root.querySelector("input");
  const count = root.querySelector(".count");
  let step = 0;

  function show(k) {
    step = Math.max(0, Math.min(last, k));
    for (const e of timed) {
      const until = e.dataset.to === undefined ? Infinity : Number(e.dataset.to);
      e.classList.toggle("hidden", step < Number(e.dataset.from) || step >= until);
    }
    for (const e of stepped) e.classList.toggle("now", Number(e.dataset.step) === step);
    slider.value = step;
    count.textContent = `step ${step} of ${last}`;
    const box = root.querySelector(step ? ".box.now" : '.box[data-step="1"]').getBoundingClientRect();
    const view = scroll.getBoundingClientRect();
    scroll.scrollBy(
      box.left + box.width / 2 - view.left - view.width / 2,
      box.top + box.height / 2 - view.top - view.height / 2,
    );
  }

  const moves = { first: () => 0, back: () => step - 1, on: () => step + 1, last: () => last };
  for (const [name, move] of Object.entries(moves)) {
    root.querySelector(`button.${name}`).onclick = () => show(move());
  }
  slider.max = last;
  slider.oninput = () => show(Number(slider.value));
  // A page that is nothing but the drawing takes the keys wherever they are pressed.
  const page = root.dataset.page === undefined ? root : document;
  page.addEventListener("keydown", (event) => {
    const move = { ArrowRight: step + 1, ArrowLeft: step - 1, Home: 0, End: last }[event.key];
    if (move === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    show(move);
  });
  for (const e of root.querySelectorAll(".box[data-step]")) {
    e.addEventListener("click", () => show(Number(e.dataset.step)));
  }
  root.querySelector(".controls").hidden = false;
  const asked = () => Number(/step=(\d+)/.exec(location.hash)?.[1] ?? 0);
  if (page === document) addEventListener("hashchange", () => show(asked()));
  show(page === document ? asked() : 0);
}
