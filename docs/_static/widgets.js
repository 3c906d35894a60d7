// Every widget on the page. All of its states are in its JSON: this shows the one that the sliders
// choose, or the part under the pointer. making/widgets/widget.py writes both.
for (const root of document.querySelectorAll(".tinynet-widget")) {
  const { sliders, hover, before, frames } = JSON.parse(root.querySelector("script").textContent);
  const note = root.querySelector("figcaption");
  const parts = {};
  for (const part of root.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;

  function put({ text = {}, mark = {}, path = {} }, add) {
    for (const [name, words] of Object.entries(text)) {
      (parts[name].querySelector("text") ?? parts[name]).textContent = words;
    }
    for (const [name, kind] of Object.entries(mark)) {
      const was = add ? parts[name].getAttribute("class") ?? "" : "";
      parts[name].setAttribute("class", `${was} ${kind}`.trim());
    }
    for (const [name, way] of Object.entries(path)) parts[name].setAttribute("d", way);
  }

  function show(number) {
    put(before, false);
    put(frames[number], true);
    note.innerHTML = frames[number].note;
  }

  const places = sliders.map(() => 0);
  const chosen = () => sliders.reduce((n, slider, i) => n * slider.values.length + places[i], 0);
  const controls = document.createElement("div");
  controls.className = "controls";
  sliders.forEach((slider, i) => {
    const label = document.createElement("label");
    const range = document.createElement("input");
    const words = document.createElement("output");
    const last = slider.values.length - 1;
    const set = (place) => {
      places[i] = Math.max(0, Math.min(last, place));
      range.value = places[i];
      words.textContent = slider.values[places[i]];
      show(chosen());
    };
    const button = (sign, move) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = sign;
      made.ariaLabel = `${slider.label}: ${move < 0 ? "back" : "on"}`;
      made.onclick = () => set(places[i] + move);
      return made;
    };
    Object.assign(range, { type: "range", min: 0, max: last, value: 0 });
    range.oninput = () => set(Number(range.value));
    words.textContent = slider.values[0];
    label.append(slider.label, " ", range);
    const line = document.createElement("div");
    line.append(button("\u2190", -1), label, button("\u2192", 1), words);
    controls.append(line);
  });
  root.querySelector(".scroll").before(controls);

  for (const [name, number] of Object.entries(hover)) {
    parts[name].classList.add("points");
    parts[name].addEventListener("pointerenter", () => show(number));
    parts[name].addEventListener("click", () => show(number));
    parts[name].addEventListener("pointerleave", () => show(chosen()));
  }
  show(0);
}
