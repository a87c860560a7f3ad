// Boxes of one image: their geometry, changes that can be undone, and the merge of two people's changes.

const DIGITS = 6;
const MATCH_IOU = 0.5;
const LEAST = 0.002;

const round = (value) => Number(Math.min(1, Math.max(0, value)).toFixed(DIGITS));

/** Return text in which signs that cannot be seen, or that turn others round, are spelled out. */
export const readable = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);

/** Return a box of the class name with ordered corners, within the picture. */
export function box(name, x1, y1, x2, y2) {
  const [left, right] = [round(Math.min(x1, x2)), round(Math.max(x1, x2))];
  const [top, bottom] = [round(Math.min(y1, y2)), round(Math.max(y1, y2))];
  return { name, x1: left, y1: top, x2: right, y2: bottom };
}

export const plain = ({ name, x1, y1, x2, y2 }) => ({ name, x1, y1, x2, y2 });
export const hasArea = (one) => one.x2 - one.x1 >= LEAST && one.y2 - one.y1 >= LEAST;
const key = (one) => [one.name, one.x1, one.y1, one.x2, one.y2].join("\u0000");

/** Return whether both lists hold the same boxes, in any order. */
export function equal(ours, theirs) {
  const sorted = (boxes) => boxes.map(key).sort().join("\u0001");
  return ours.length === theirs.length && sorted(ours) === sorted(theirs);
}

export function iou(one, other) {
  const width = Math.min(one.x2, other.x2) - Math.max(one.x1, other.x1);
  const height = Math.min(one.y2, other.y2) - Math.max(one.y1, other.y1);
  if (width <= 0 || height <= 0) return 0;
  const area = (of) => (of.x2 - of.x1) * (of.y2 - of.y1);
  return (width * height) / (area(one) + area(other) - width * height);
}

/** Return what both have made of the same boxes: what either removed is gone, what either added is there once. */
export function merge(before, ours, theirs) {
  const known = new Set(before.map(key));
  const [mine, others] = [new Set(ours.map(key)), new Set(theirs.map(key))];
  const kept = before.filter((one) => mine.has(key(one)) && others.has(key(one)));
  const added = ours.filter((one) => !known.has(key(one)));
  const more = theirs.filter((one) => !known.has(key(one)));
  const same = (one) => (other) => one.name === other.name && iou(one, other) >= MATCH_IOU;
  return [...kept, ...added, ...more.filter((one) => !added.some(same(one)))].map(plain);
}

/** Move a box, or its edges, by shares of the picture; it keeps within it and keeps an area. */
export function moved(one, edges, dx, dy) {
  if (edges === "move") {
    const x = Math.min(1 - one.x2, Math.max(-one.x1, dx)), y = Math.min(1 - one.y2, Math.max(-one.y1, dy));
    return box(one.name, one.x1 + x, one.y1 + y, one.x2 + x, one.y2 + y);
  }
  const next = { ...one };
  if (edges.includes("w")) next.x1 = Math.min(one.x2 - LEAST, one.x1 + dx);
  if (edges.includes("e")) next.x2 = Math.max(one.x1 + LEAST, one.x2 + dx);
  if (edges.includes("n")) next.y1 = Math.min(one.y2 - LEAST, one.y1 + dy);
  if (edges.includes("s")) next.y2 = Math.max(one.y1 + LEAST, one.y2 + dy);
  return box(one.name, next.x1, next.y1, next.x2, next.y2);
}

/** The boxes of the image on the screen; each change is a step that can be undone. */
export class Drawing {
  constructor(before, boxes = before) {
    this.before = before.map(plain);
    this.boxes = boxes.map(plain);
    this.selected = -1;
    this.past = [];
    this.future = [];
  }

  get changed() { return !equal(this.before, this.boxes); }
  get box() { return this.boxes[this.selected]; }

  /** Remember the boxes as they are, before one step of change; moves by one key or one drag are one step. */
  step(what = "") {
    if (what && what === this.last) return;
    this.past.push({ boxes: this.boxes, selected: this.selected });
    this.future = [];
    this.last = what;
  }

  replace(one) {
    this.boxes = this.boxes.map((old, index) => (index === this.selected ? one : old));
  }

  add(one) {
    this.step();
    this.boxes = [...this.boxes, plain(one)];
    this.selected = this.boxes.length - 1;
  }

  remove() {
    if (!this.box) return;
    this.step();
    this.boxes = this.boxes.filter((_, index) => index !== this.selected);
    this.selected = Math.min(this.selected, this.boxes.length - 1);
  }

  rename(name) {
    if (!this.box || this.box.name === name) return;
    this.step();
    this.replace({ ...this.box, name });
  }

  nudge(edges, dx, dy) {
    if (!this.box) return;
    this.step(`${edges}${this.selected}`);
    this.replace(moved(this.box, edges, dx, dy));
  }

  set(boxes) {
    this.step();
    this.boxes = boxes.map(plain);
    this.selected = -1;
  }

  select(index) {
    this.selected = index;
    this.last = "";
  }

  cycle(by) {
    const number = this.boxes.length;
    if (number) this.select(this.selected < 0 ? (by > 0 ? 0 : number - 1) : (this.selected + by + number) % number);
  }

  undo() { return this.#swap(this.past, this.future); }
  redo() { return this.#swap(this.future, this.past); }

  #swap(from, to) {
    const state = from.pop();
    if (!state) return false;
    to.push({ boxes: this.boxes, selected: this.selected });
    Object.assign(this, state);
    this.last = "";
    return true;
  }
}
