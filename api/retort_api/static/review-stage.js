// The picture with its boxes: zoom, mouse, pen and touch.

import { box, hasArea, moved, readable } from "./review-boxes.js";

const SVG = "http://www.w3.org/2000/svg";
const CORNERS = ["nw", "ne", "se", "sw"];
const FAR_PX = 4;
const MOST_ZOOM = 16;

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/**
 * Shows one picture and lets a pointer change its drawing.
 *
 * `changed` is called after each change of the drawing; `className` gives the name for new boxes.
 */
export class Stage {
  constructor(place, { changed, className, colour }) {
    this.place = place;
    Object.assign(this, { changed, className, colour });
    this.svg = element("svg", { "aria-hidden": "true" });
    this.frame = document.createElement("div");
    this.frame.className = "frame";
    place.append(this.frame);
    this.pointers = new Map();
    this.drawing = null;
    this.hidden = false;
    this.free = false;  // a drag draws, whatever lies under it
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      place.addEventListener(kind, (event) => this[kind](event));
    }
    place.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.render()).observe(place);
  }

  show(picture, image, drawing, { editable }) {
    Object.assign(this, { drawing, editable, doubtful: image.doubtful });
    this.size = [image.width, image.height];
    this.gesture = null;
    this.pointers.clear();
    this.frame.replaceChildren(picture, this.svg);
    this.fit();
  }

  fit() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.render();
  }

  /** Enlarge around a point of the stage, else around the selected box or the middle. */
  enlarge(factor, at) {
    const { width, height } = this.place.getBoundingClientRect();
    const { scale, left, top } = this.layout();
    const chosen = this.drawing?.box;
    const middle = chosen
      ? [left + scale * this.size[0] * (chosen.x1 + chosen.x2) / 2, top + scale * this.size[1] * (chosen.y1 + chosen.y2) / 2]
      : [width / 2, height / 2];
    const [x, y] = at ?? middle;
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    const [dx, dy] = [x - width / 2 - this.x, y - height / 2 - this.y];
    this.x += dx - dx * zoom / this.zoom;
    this.y += dy - dy * zoom / this.zoom;
    this.zoom = zoom;
    this.render();
  }

  /** Return the scale of the picture in the stage, and where its corner lies. */
  layout() {
    const { width, height } = this.place.getBoundingClientRect();
    const [w, h] = this.size;
    const scale = Math.min(width / w, height / h) * this.zoom;
    const slack = [Math.max(0, (scale * w - width) / 2), Math.max(0, (scale * h - height) / 2)];
    this.x = Math.min(slack[0], Math.max(-slack[0], this.x));
    this.y = Math.min(slack[1], Math.max(-slack[1], this.y));
    return { scale, left: (width - scale * w) / 2 + this.x, top: (height - scale * h) / 2 + this.y };
  }

  render() {
    if (!this.drawing) return;
    const { scale, left, top } = this.layout();
    const [w, h] = this.size.map((side) => side * scale);
    Object.assign(this.frame.style, { width: `${w}px`, height: `${h}px`, left: `${left}px`, top: `${top}px` });
    this.svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    const shapes = this.hidden ? [] : this.#shapes(w, h);
    if (this.ghost) shapes.push(this.#rectangle(this.ghost, w, h, "box selected"));
    this.svg.replaceChildren(...shapes);
  }

  #shapes(w, h) {
    const area = (one) => (one.x2 - one.x1) * (one.y2 - one.y1);
    const { boxes, selected } = this.drawing;
    const order = boxes.map((_, index) => index).sort((a, b) => area(boxes[b]) - area(boxes[a]));
    const shapes = this.doubtful.map((one) => this.#rectangle(one, w, h, "doubtful"));
    for (const index of order.filter((one) => one !== selected)) shapes.push(...this.#box(index, w, h, "box"));
    if (boxes[selected]) shapes.push(...this.#box(selected, w, h, "box selected"), ...this.#handles(boxes[selected], w, h));
    return shapes;
  }

  #box(index, w, h, kind) {
    const one = this.drawing.boxes[index];
    const shape = this.#rectangle(one, w, h, kind);
    shape.dataset.index = index;
    const label = element("text", { x: one.x1 * w + 3, y: Math.max(12, one.y1 * h - 4), class: `tag hue${this.colour(one.name)}` });
    label.textContent = readable(one.name);
    return [this.#rectangle(one, w, h, "halo"), shape, label];
  }

  #rectangle(one, w, h, kind) {
    const size = { x: one.x1 * w, y: one.y1 * h, width: (one.x2 - one.x1) * w, height: (one.y2 - one.y1) * h };
    return element("rect", { ...size, class: `${kind} hue${this.colour(one.name)}` });
  }

  #handles(one, w, h) {
    if (!this.editable) return [];
    return CORNERS.map((corner) => {
      const x = (corner.includes("w") ? one.x1 : one.x2) * w, y = (corner.includes("n") ? one.y1 : one.y2) * h;
      const made = element("circle", { cx: x, cy: y, r: 7, class: `handle ${corner} hue${this.colour(one.name)}` });
      made.dataset.corner = corner;
      return made;
    });
  }

  /** Return where a pointer is, as shares of the picture. */
  #share(event) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  pointerdown(event) {
    if (!this.drawing || event.button > 1) return;
    this.place.focus({ preventScroll: true });
    event.preventDefault();
    this.place.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size === 2) return this.#pinch();
    if (this.pointers.size > 2) return;
    const { corner, index } = event.target.dataset ?? {};
    const start = { at: [event.clientX, event.clientY], share: this.#share(event), box: this.drawing.box, far: false };
    const draws = this.editable && (this.free || event.shiftKey);
    if (event.button === 1) this.gesture = { ...start, kind: "pan" };
    else if (corner && !draws) this.gesture = { ...start, kind: corner };
    else if (index !== undefined && !draws) {
      this.drawing.select(Number(index));
      this.gesture = { ...start, kind: this.editable ? "move" : "pan", box: this.drawing.box };
      this.changed();
    } else this.gesture = { ...start, kind: this.editable && (draws || event.pointerType !== "touch") ? "draw" : "pan" };
    this.pan = [this.x, this.y];
  }

  pointermove(event) {
    if (!this.pointers.has(event.pointerId)) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pinch) return this.#pinched();
    const gesture = this.gesture;
    if (!gesture) return;
    const [dx, dy] = [event.clientX - gesture.at[0], event.clientY - gesture.at[1]];
    if (!gesture.far && Math.hypot(dx, dy) < FAR_PX) return;
    const [x, y] = this.#share(event);
    if (gesture.kind === "pan") [this.x, this.y] = [this.pan[0] + dx, this.pan[1] + dy];
    else if (gesture.kind === "draw") this.ghost = box(this.className(), ...gesture.share, x, y);
    else {
      if (!gesture.far) this.drawing.step();
      this.drawing.replace(moved(gesture.box, gesture.kind, x - gesture.share[0], y - gesture.share[1]));
    }
    gesture.far = true;
    this.render();
  }

  pointerup(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pinch) {
      this.pinch = null;
      this.gesture = null;
      return;
    }
    const gesture = this.gesture;
    this.gesture = null;
    if (!gesture) return;
    if (this.ghost) {
      if (hasArea(this.ghost)) this.drawing.add(this.ghost);
      this.ghost = null;
    } else if (!gesture.far && (gesture.kind === "draw" || gesture.kind === "pan")) this.drawing.select(-1);
    this.changed();
  }

  pointercancel(event) {
    this.ghost = null;
    this.pointerup(event);
  }

  #pinch() {
    const begun = this.gesture;
    if (begun?.far && !["pan", "draw"].includes(begun.kind)) this.drawing.undo();  // the first finger moved a box
    this.ghost = this.gesture = null;
    const [a, b] = [...this.pointers.values()];
    this.pinch = { far: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], zoom: this.zoom };
  }

  #pinched() {
    const [a, b] = [...this.pointers.values()];
    if (!b) return;
    const far = Math.hypot(a[0] - b[0], a[1] - b[1]), middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const { left, top } = this.place.getBoundingClientRect();
    this.x += middle[0] - this.pinch.middle[0];
    this.y += middle[1] - this.pinch.middle[1];
    this.pinch.middle = middle;
    this.enlarge(this.pinch.zoom * far / this.pinch.far / this.zoom, [middle[0] - left, middle[1] - top]);
  }

  wheel(event) {
    if (!this.drawing || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const { left, top } = this.place.getBoundingClientRect();
    this.enlarge(Math.exp(-event.deltaY / 200), [event.clientX - left, event.clientY - top]);
  }
}
