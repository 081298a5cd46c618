// The frames of a movie with their tracked cells: OpenSeadragon shows the frames, a canvas above them the cells.

import OpenSeadragon from "openseadragon";
import { imagePath, type Channel } from "./api";
import { channelsQuery, TiledView, tileSource } from "./tiled";
import { movies, type Cell, type Movie, type Lineage } from "./tracks";

const HELD = 48; // frames that are kept ready to be shown
const AHEAD = 4; // frames that are fetched before they are shown
const TILES = 600; // that are kept in memory

interface Shape {
  masked: number;
  path: Path2D;
}

export interface MovieLook {
  channels: Channel[];
  outlines: boolean;
  fill: number;
  /** frames whose positions are drawn */
  trail: number;
}

/** What is marked: the cell in work, and the cells that were picked besides. */
export interface Marks {
  chosen: Cell | null;
  picked: Cell[];
}

export class MovieViewer extends TiledView {
  /** called when somebody clicks on a cell of the frame shown, or beside all cells */
  onPick: (cell: Cell | null) => void = () => {};
  onZoom: (percent: number) => void = () => {};

  private movie: Movie | null = null;
  private lineage: Lineage | null = null;
  private look: MovieLook = { channels: [], outlines: true, fill: 0.25, trail: 0 };
  private marks: Marks = { chosen: null, picked: [] };
  private items = new Map<number, OpenSeadragon.TiledImage>();
  private asked = new Set<number>();
  /** frames that were loaded once: from then on they are shown, also while finer tiles come */
  private seen = new Set<number>();
  private shapes = new Map<number, Shape[] | Promise<Shape[]>>();
  /** to be brought into sight as soon as its frame is there */
  private sought: Cell | null = null;
  private frame = 0;
  private shown = "";

  constructor(element: HTMLElement) {
    super(element, { maxImageCacheCount: TILES, imageLoaderLimit: 4 });
    const viewer = this.viewer;
    viewer.addHandler("canvas-click", (event) => {
      if (event.quick) this.onPick(this.at(event.position));
    });
    for (const name of ["canvas-drag", "canvas-pinch", "canvas-scroll"] as const) {
      viewer.addHandler(name, () => {
        this.whole = false;
      });
    }
  }

  destroy(): void {
    this.viewer.destroy();
  }

  /** Show another movie, or the same one with other tracks of other cells. */
  open(movie: Movie): void {
    const other = this.movie?.name !== movie.name;
    if (other) {
      this.clear();
      this.whole = true;
      this.sought = null;
    }
    if (other || this.movie?.tracked !== movie.tracked) this.shapes.clear();
    this.movie = movie;
  }

  /** Show a frame, by its place in the movie, and have the next ones ready. */
  show(frame: number, look: MovieLook, lineage: Lineage | null, marks: Marks): void {
    const shown = channelsQuery(look.channels);
    if (shown !== this.shown) this.clear();
    this.shown = shown;
    Object.assign(this, { frame, look, lineage, marks });
    if (this.sought?.frame !== this.number()) this.sought = null;
    this.fetch(frame);
    this.arrange();
    this.find();
    this.paint();
  }

  /** Tell whether a frame, by its place, can be shown at once with its cells. */
  ready(frame: number): boolean {
    const shapes = this.shapes.get(frame);
    return !!this.items.get(frame)?.getFullyLoaded() && !(shapes instanceof Promise);
  }

  /** Bring a cell into sight, if it is not, once its frame is shown and loaded. */
  seek(cell: Cell): void {
    this.sought = cell;
    this.find();
  }

  private find(): void {
    const cell = this.sought;
    const item = this.items.get(this.frame);
    if (!cell || !item || cell.frame !== this.number()) return;
    this.sought = null;
    const place = this.lineage?.middles(cell.frame).get(cell.label);
    if (!place) return;
    const point = item.imageToViewportCoordinates(place[0], place[1]);
    if (this.viewer.viewport.getBounds().containsPoint(point)) return;
    this.whole = false;
    this.viewer.viewport.panTo(point);
  }

  private clear(): void {
    this.viewer.world.removeAll();
    this.items.clear();
    this.asked.clear();
    this.seen.clear();
  }

  private fetch(frame: number): void {
    const movie = this.movie;
    const entry = movie?.frames[frame];
    if (!movie || !entry) return;
    this.outline(frame);
    if (this.asked.has(frame)) return;
    this.asked.add(frame);
    const base = `${imagePath(entry.image)}/tiles`;
    const query = this.shown;
    const asked = this.asked;
    this.viewer.addTiledImage({
      tileSource: tileSource(movie, base, query),
      opacity: 0,
      preload: true,
      success: (event) => {
        const item = (event as unknown as { item: OpenSeadragon.TiledImage }).item;
        if (movie.name !== this.movie?.name || !asked.has(frame) || query !== this.shown) {
          this.viewer.world.removeItem(item);
          return;
        }
        const first = this.items.size === 0;
        this.items.set(frame, item);
        if (first && this.whole) this.home(true);
        this.find();
        item.addHandler("fully-loaded-change", () => {
          if (this.items.get(frame) === item && item.getFullyLoaded()) this.seen.add(frame);
          this.arrange();
          this.paint();
        });
        this.arrange();
        this.paint();
      },
    });
  }

  /** Fetch the outlines of the cells of a frame, once; anew if that fails. */
  private outline(frame: number): void {
    const movie = this.movie;
    const entry = movie?.frames[frame];
    if (!movie || !entry || movie.tracked === null || this.shapes.has(frame)) return;
    const coming = movies.outlines(movie.name, entry.number).then((outlines) =>
      outlines.map(([masked, points]): Shape => {
        const path = new Path2D();
        for (let k = 0; k < points.length; k += 2) path.lineTo(points[k]!, points[k + 1]!);
        path.closePath();
        return { masked, path };
      }),
    );
    this.shapes.set(frame, coming);
    const current = () => this.shapes.get(frame) === coming;
    coming.then(
      (shapes) => {
        if (!current()) return;
        this.shapes.set(frame, shapes);
        if (frame === this.frame) this.paint();
      },
      () => {
        if (current()) this.shapes.delete(frame);
      },
    );
  }

  /** Show the frame wanted, and fetch the next ones; until it is loaded the one before stays. Forget frames far away. */
  private arrange(): void {
    const count = this.movie?.frames.length ?? 0;
    const world = this.viewer.world;
    const wanted = this.items.get(this.frame);
    if (wanted) {
      const top = world.getItemCount() - 1;
      if (world.getIndexOfItem(wanted) !== top) world.setItemIndex(wanted, top);
      wanted.setOpacity(1);
    }
    if (!this.seen.has(this.frame)) return;
    for (const [frame, item] of this.items) if (frame !== this.frame) item.setOpacity(0);
    for (let ahead = 1; ahead <= AHEAD && ahead < count; ahead++) this.fetch((this.frame + ahead) % count);
    const far = (frame: number) => (frame - this.frame + count + HELD / 2) % count;
    const beyond = (frames: Iterable<number>) => [...frames].sort((one, other) => far(one) - far(other)).slice(HELD);
    for (const frame of beyond(this.shapes.keys())) this.shapes.delete(frame);
    for (const frame of beyond(this.items.keys())) {
      this.viewer.world.removeItem(this.items.get(frame)!);
      this.items.delete(frame);
      this.asked.delete(frame);
      this.seen.delete(frame);
    }
  }

  private number(): number {
    return this.movie?.frames[this.frame]?.number ?? 0;
  }

  private there(): Shape[] {
    const found = this.shapes.get(this.frame);
    return Array.isArray(found) ? found : [];
  }

  private at(position: OpenSeadragon.Point): Cell | null {
    const item = this.items.get(this.frame);
    const pen = this.canvas.getContext("2d");
    if (!item || !pen || !this.lineage || !this.seen.has(this.frame)) return null;
    const point = item.viewerElementToImageCoordinates(position);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    const found = this.there().find(({ path }) => pen.isPointInPath(path, point.x, point.y));
    const frame = this.number();
    return found ? { label: this.lineage.label(frame, found.masked), frame } : null;
  }

  protected paint(): void {
    const canvas = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const item = this.items.get(this.frame);
    if (!pen) return;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!item) return;
    const scale = item.viewportToImageZoom(this.viewer.viewport.getZoom(true)) * ratio;
    this.onZoom(Math.round((100 * scale) / ratio));
    const corner = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    pen.setTransform(scale, 0, 0, scale, corner.x * ratio, corner.y * ratio);
    pen.lineJoin = pen.lineCap = "round";
    if (!this.lineage || !this.seen.has(this.frame)) return;
    this.cells(pen, this.lineage, ratio / scale);
    if (this.look.trail) this.trails(pen, this.lineage, ratio / scale);
  }

  private cells(pen: CanvasRenderingContext2D, lineage: Lineage, pixel: number): void {
    const { outlines, fill } = this.look;
    const frame = this.number();
    const chosen = this.marks.chosen?.label;
    const picked = this.marks.picked.filter((cell) => cell.frame === frame).map(({ label }) => label);
    for (const { masked, path } of this.there()) {
      const label = lineage.label(frame, masked);
      pen.fillStyle = pen.strokeStyle = lineage.tracks.get(label)?.colour ?? "#ffffff";
      if (fill) {
        pen.globalAlpha = fill;
        pen.fill(path);
      }
      pen.globalAlpha = 1;
      if (outlines) {
        pen.lineWidth = 1.6 * pixel;
        pen.stroke(path);
      }
      if (label === chosen || picked.includes(label)) {
        pen.lineWidth = 5 * pixel;
        pen.strokeStyle = "#000000";
        pen.stroke(path);
        pen.lineWidth = 2.6 * pixel;
        pen.strokeStyle = label === chosen ? "#ffffff" : "#ffd24a";
        pen.stroke(path);
      }
    }
  }

  private trails(pen: CanvasRenderingContext2D, lineage: Lineage, pixel: number): void {
    const frame = this.number();
    for (const [label, [x, y]] of lineage.middles(frame)) {
      const trail = lineage.trail({ label, frame }, this.look.trail);
      const colour = lineage.tracks.get(label)?.colour ?? "#ffffff";
      pen.beginPath();
      trail.forEach((place, k) => (k ? pen.lineTo(...place) : pen.moveTo(...place)));
      pen.globalAlpha = 0.6;
      pen.lineWidth = 4 * pixel;
      pen.strokeStyle = "#000000";
      pen.stroke();
      pen.globalAlpha = 1;
      pen.lineWidth = 2 * pixel;
      pen.strokeStyle = colour;
      pen.stroke();
      pen.beginPath();
      pen.arc(x, y, 2.6 * pixel, 0, 7);
      pen.fillStyle = colour;
      pen.fill();
    }
  }
}
