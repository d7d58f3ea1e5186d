"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Tabs: without scripts all sections are listed one below another.
  const sections = all("main > section"), links = all("nav a");
  const show = (id) => {
    const chosen = sections.some((section) => section.id === id) ? id : sections[0].id;
    sections.forEach((section) => { section.hidden = section.id !== chosen; });
    links.forEach((link) => {
      const is = link.hash === "#" + chosen;
      link.setAttribute("aria-selected", is);
      link.tabIndex = is ? 0 : -1;
    });
    planes.forEach((plane) => plane.draw());
  };
  const planes = [];
  document.body.classList.add("tabbed");
  document.querySelector("nav").setAttribute("role", "tablist");
  links.forEach((link, at) => {
    link.setAttribute("role", "tab");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", link.hash);
      show(link.hash.slice(1));
    });
    link.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        const next = links[(at + step + links.length) % links.length];
        next.click();
        next.focus();
      }
    });
  });

  // Downloads.
  const save = (name, blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name.replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 80).replace(/^_|_$/g, "") + "." + blob.type.split("/").pop().split("+")[0].replace("tab-separated-values", "tsv") });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const button = (text, title, action) => {
    const made = make("button", { type: "button", textContent: text, title });
    made.addEventListener("click", action);
    return made;
  };
  const standalone = (svg) => {
    const copy = svg.cloneNode(true), style = getComputedStyle(document.body);
    copy.setAttribute("color", style.color);
    copy.setAttribute("style", "background:" + getComputedStyle(svg.closest(".card")).backgroundColor + ";color:" + style.color);
    return new XMLSerializer().serializeToString(copy);
  };
  const raster = (svg, name) => {
    const image = new Image(), { width, height } = svg.viewBox.baseVal;
    image.onload = () => {
      const canvas = make("canvas", { width: width * 3, height: height * 3 });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(name, blob));
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone(svg));
  };
  all("figure").forEach((figure) => {
    const name = figure.querySelector("h3").textContent;
    const source = () => figure.querySelector("svg[viewBox]");
    figure.append(make("div", { className: "save" },
      button("SVG", "Download as SVG", () => save(name, new Blob([standalone(source())], { type: "image/svg+xml" }))),
      button("PNG", "Download as PNG image", () => raster(source(), name))));
  });

  // Tables: sort by a click on a heading, download as TSV.
  const value = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.className === "none" ? null : cell.textContent;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  const sort = (table, heading) => {
    const at = heading.cellIndex, body = table.tBodies[0];
    const up = heading.getAttribute("aria-sort") !== "ascending";
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [value(row, at), row]);
    rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : up ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
  };
  all("main table").forEach((table) => {
    all("th", table).forEach((heading) => {
      heading.tabIndex = 0;
      heading.title = "Sort";
      heading.addEventListener("click", () => sort(table, heading));
      heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, heading); });
    });
    const card = table.closest(".card");
    const text = () => [...table.rows].map((row) => [...row.cells].map((cell) => cell.dataset.v ?? (cell.className === "none" ? "" : cell.textContent)).join("\t")).join("\n") + "\n";
    card.append(make("div", { className: "save" }, button("TSV", "Download as TSV", () => save(card.querySelector("h3").textContent, new Blob([text()], { type: "text/tab-separated-values" })))));
  });

  // Cells on a canvas, colored by any column.
  const palette = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#B8A500", "#8C8C8C", "#7A6FD0", "#A65E1A", "#44AA99", "#B0457B", "#6699CC", "#DDAA66", "#5F9E3F", "#E07A6E"];
  const gray = "#9A9A9A", stops = [[68, 57, 131], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const shade = (fraction) => {
    const position = fraction * (stops.length - 1), low = Math.min(Math.floor(position), stops.length - 2);
    return `rgb(${stops[low].map((from, at) => Math.round(from + (stops[low + 1][at] - from) * (position - low))).join(",")})`;
  };
  const unpack = (text, type) => new type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  class Plane {
    constructor(script) {
      this.data = JSON.parse(script.textContent);
      this.place = document.getElementById(script.dataset.for);
      this.still = this.place.querySelector("svg");
      this.legend = this.place.parentElement.querySelector(".legend");
      this.x = unpack(this.data.x, Uint16Array);
      this.y = unpack(this.data.y, Uint16Array);
      this.data.columns.forEach((column) => { column.values = unpack(column.codes, column.wide ? Uint16Array : Uint8Array); });
      this.only = null;
      this.column = this.data.columns[this.data.main];
      if (this.data.columns.length) this.menu();
      this.place.addEventListener("pointermove", (event) => this.showTip(event));
      this.place.addEventListener("pointerleave", () => this.tip?.remove());
    }
    menu() {
      const options = this.data.columns.map((column, at) => make("option", { value: at, textContent: column.name, selected: at === this.data.main }));
      const select = make("select", {}, ...options);
      select.addEventListener("change", () => {
        this.column = this.data.columns[select.value];
        this.only = null;
        this.draw(true);
      });
      this.place.parentElement.before(make("div", { className: "tools" }, make("label", {}, "Color by ", select)));
      if (this.data.main === null) select.selectedIndex = -1;
    }
    code(cell) { return this.column?.values[cell]; }
    isMissing(code) { return code === (this.column.wide ? 65535 : 255); }
    ink(code) {
      if (!this.column || this.isMissing(code)) return gray;
      return this.column.categories ? palette[code % palette.length] : shade(code / 254);
    }
    label(code) {
      if (this.isMissing(code)) return "none";
      const { categories, low, high } = this.column;
      return categories ? categories[code] : (low + (high - low) * code / 254).toPrecision(3);
    }
    // Draws into the image of the SVG, so that downloads match the view.
    draw(changed) {
      if (!changed && !this.column || this.place.offsetParent === null || !changed && this.drawn) return;
      this.drawn = true;
      const image = this.still.querySelector("image"), [width, height] = [1280, 960];
      const canvas = make("canvas", { width, height }), pen = canvas.getContext("2d"), radius = this.data.radius * 2;
      const groups = new Map();
      for (let cell = 0; cell < this.data.n; cell++) {
        const code = this.code(cell), list = groups.get(code);
        if (this.only !== null && code !== this.only) continue;
        list ? list.push(cell) : groups.set(code, [cell]);
      }
      // A few cells of each group in turn, so that no group covers the others.
      const turns = [...groups].map(([code, cells]) => [this.ink(code), cells]);
      const rounds = 40;
      for (let round = 0; round < rounds; round++) {
        for (const [ink, cells] of turns) {
          pen.fillStyle = ink;
          pen.beginPath();
          const end = Math.floor(cells.length * (round + 1) / rounds);
          for (let at = Math.floor(cells.length * round / rounds); at < end; at++) {
            const x = this.x[cells[at]] / 65535 * width, y = this.y[cells[at]] / 65535 * height;
            pen.moveTo(x + radius, y);
            pen.arc(x, y, radius, 0, 7);
          }
          pen.fill();
        }
      }
      image.setAttribute("href", canvas.toDataURL());
      this.relabel();
    }
    relabel() {
      const { categories } = this.column, main = this.column === this.data.columns[this.data.main];
      all("text[font-weight]", this.still).forEach((number) => { number.style.display = main ? "" : "none"; });
      const title = make("p", {}, make("strong", { textContent: this.column.name }));
      if (!categories) {
        const bar = make("div");
        bar.style.cssText = `height:12px;border-radius:3px;background:linear-gradient(90deg,${[0, 1, 2, 3].map((at) => shade(at / 3))})`;
        this.legend.replaceChildren(title, bar, make("p", { textContent: `${this.column.low.toPrecision(3)} to ${this.column.high.toPrecision(3)}` }));
        return;
      }
      const counts = new Map();
      this.column.values.forEach((code) => counts.set(code, (counts.get(code) || 0) + 1));
      const item = (name, code) => {
        const mark = make("span");
        mark.style.cssText = `display:inline-block;width:11px;height:11px;border-radius:2px;background:${this.ink(code)}`;
        const line = make("li", { title: "Show only these cells" }, mark, " ", make("bdi", { textContent: name.length > 40 ? name.slice(0, 39) + "…" : name }), " ", make("small", { textContent: (counts.get(code) || 0).toLocaleString("en") }));
        line.style.cssText = `cursor:pointer;opacity:${this.only === null || this.only === code ? 1 : .4}`;
        line.addEventListener("click", () => { this.only = this.only === code ? null : code; this.draw(true); });
        return line;
      };
      title.append(", plotted cells");
      this.legend.replaceChildren(title, make("ol", { className: categories.every((name) => name.length <= 3) ? "plain" : "" }, ...categories.slice(0, 60).map(item)));
      if (categories.length > 60) this.legend.append(make("p", { textContent: `and ${categories.length - 60} more` }));
    }
    showTip(event) {
      const box = this.still.getBoundingClientRect(), scale = this.still.viewBox.baseVal.width / box.width;
      const x = ((event.clientX - box.left) * scale - 24) / 640 * 65535, y = (event.clientY - box.top) * scale / 480 * 65535;
      let best = 900 ** 2, found = -1;
      for (let cell = 0; cell < this.data.n; cell++) {
        const distance = (this.x[cell] - x) ** 2 + (this.y[cell] - y) ** 2;
        if (distance < best && (this.only === null || this.code(cell) === this.only)) [best, found] = [distance, cell];
      }
      this.tip?.remove();
      if (found < 0) return;
      const lines = [this.data.names ? this.data.names[found] : null, this.column ? `${this.column.name}: ${this.label(this.code(found))}` : null];
      this.tip = make("div", { className: "tip", textContent: lines.filter(Boolean).join("\n") });
      this.tip.style.cssText = `left:${Math.min(event.clientX + 14, innerWidth - 300)}px;top:${event.clientY + 14}px;white-space:pre-line`;
      document.body.append(this.tip);
    }
  }
  all("script.cells").forEach((script) => planes.push(new Plane(script)));
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  show(location.hash.slice(1));
})();
