// The image with its cells: OpenSeadragon shows tiles, and the tools draw on a canvas above it.

import OpenSeadragon from "openseadragon";
import { imagePath, type Channel, type Edit, type ImageInfo } from "./api";
import { channelsQuery, TiledView, tileSource } from "./tiled";

export type Tool = "move" | "brush" | "eraser" | "outline" | "split" | "merge" | "delete" | "fill";
export type Point = [number, number];

export interface Look {
  channels: Channel[];
  outlines: boolean;
  fill: number;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

const LAYERS = ["tiles", "fills", "outlines"] as const; // from the lowest one
type Layer = (typeof LAYERS)[number];

const CLOSE = 10; // px on the screen within which a click on the first corner closes an outline
const STEP = 1.5; // px on the screen between two points of a stroke

export class CellViewer extends TiledView {
  tool: Tool = "move";
  radius = 6;
  /** called when a stroke, click or outline is finished */
  onEdit: (edit: Edit) => void = () => {};
  /** called with the number of image pixels to a screen pixel's hundred, for the zoom shown */
  onZoom: (percent: number) => void = () => {};
  /** called when an image is opened, and when it is there */
  onLoading: (loading: boolean) => void = () => {};

  private info: ImageInfo | null = null;
  private layers: Partial<Record<Layer, OpenSeadragon.TiledImage>> = {};
  private replaced: (readonly [Layer, OpenSeadragon.TiledImage])[] = [];
  private shown: Partial<Record<Layer, string>> = {};
  private stroke: Point[] = [];
  private drawing = false;
  private drawn: Tool = "move"; // the tool of the stroke, whatever is chosen before it ends
  private loading = false; // whether outlines are to replace those that are shown
  private spoiled = false;
  private corners: Point[] = [];
  private pending: { tool: Tool; points: Point[]; radius: number }[] = [];
  private pointer: Point | null = null;
  private mark: Box | null = null;
  private panning = false;

  constructor(element: HTMLElement) {
    super(element);
    this.listen(element);
  }

  /** Show another image; what was not sent is forgotten. */
  open(info: ImageInfo, look: Look): void {
    this.info = info;
    this.corners = [];
    this.stroke = [];
    this.pending = [];
    this.mark = null;
    this.drawing = false;
    this.loading = false;
    this.onLoading(true);
    this.viewer.world.removeAll();
    this.layers = {};
    this.replaced = [];
    this.shown = {};
    this.show(look, info.revision);
  }

  /** Show the image with other colours, or another state of its mask, without the last `waiting` strokes. */
  show(look: Look, revision: number, waiting = 0): void {
    if (!this.info) return;
    this.layer("tiles", channelsQuery(look.channels), 1, waiting);
    this.layer("fills", `r=${revision}`, look.fill, waiting);
    this.layer("outlines", `r=${revision}`, look.outlines ? 1 : 0, waiting);
  }

  /** Point out a part of the image, in its pixels. */
  pointOut(box: Box | null): void {
    this.mark = box;
    if (box) {
      this.whole = false;
      const margin = 0.6 * Math.max(box.width, box.height);
      const rect = new OpenSeadragon.Rect(
        box.x - margin,
        box.y - margin,
        box.width + 2 * margin,
        box.height + 2 * margin,
      );
      const item = this.layers.tiles;
      if (item) this.viewer.viewport.fitBounds(item.imageToViewportRectangle(rect));
    }
    this.paint();
  }

  pan(x: number, y: number): void {
    this.whole = false;
    const size = this.viewer.viewport.getBounds();
    this.viewer.viewport.panBy(new OpenSeadragon.Point(x * size.width, y * size.height));
    this.viewer.viewport.applyConstraints();
  }

  setTool(tool: Tool): void {
    if (tool !== this.tool) this.corners = [];
    this.tool = tool;
    this.paint();
  }

  setRadius(radius: number): void {
    this.radius = radius;
    this.paint();
  }

  /** While it is held, dragging moves the image whatever the tool. */
  setPanning(panning: boolean): void {
    this.panning = panning;
    this.paint();
  }

  /** Close the outline that is being drawn; tells whether there was one. */
  finishOutline(): boolean {
    if (this.corners.length < 3) return false;
    this.commit("outline", this.corners);
    this.corners = [];
    return true;
  }

  /** Forget what is being drawn; tells whether there was anything. */
  cancel(): boolean {
    const something = this.corners.length > 0 || this.drawing;
    this.corners = [];
    this.stroke = [];
    this.drawing = false;
    this.spoiled = true;
    this.paint();
    return something;
  }

  /** Forget strokes that are confirmed or refused: all but the last `waiting` ones. */
  drop(waiting: number): void {
    this.pending = this.pending.slice(Math.max(this.pending.length - waiting, 0));
    this.paint();
  }

  /** Forget strokes that have changed nothing: those that are confirmed while this state of the mask is shown. */
  settle(revision: number, waiting: number): void {
    if (!this.loading && this.shown.outlines === `r=${revision}`) this.drop(waiting);
  }

  private layer(layer: Layer, query: string, opacity: number, waiting: number): void {
    const info = this.info;
    this.layers[layer]?.setOpacity(opacity);
    if (!info || this.shown[layer] === query) return;
    if (layer !== "tiles" && opacity === 0) {
      // nothing is fetched for what is not shown
      const hidden = this.layers[layer];
      if (hidden) this.viewer.world.removeItem(hidden);
      delete this.layers[layer];
      delete this.shown[layer];
      if (layer === "outlines") this.drop(waiting);
      return;
    }
    this.shown[layer] = query;
    const base = `${imagePath(info.name)}/${layer}`;
    const held = this.pending.slice(0, Math.max(this.pending.length - waiting, 0));
    if (layer === "outlines") this.loading = true;
    this.viewer.addTiledImage({
      tileSource: tileSource(info, base, query),
      opacity,
      success: (event) => {
        const item = (event as unknown as { item: OpenSeadragon.TiledImage }).item;
        if (this.shown[layer] !== query || this.info !== info) {
          this.viewer.world.removeItem(item);
          return;
        }
        const former = this.layers[layer];
        this.layers[layer] = item;
        this.replaced.push(...(former ? [[layer, former] as const] : []));
        this.arrange();
        if (layer === "tiles" && !former) {
          this.home(true);
          if (this.mark) this.pointOut(this.mark); // that was asked for before the image was there
        }
        const replace = () => {
          this.removeReplaced(layer, item);
          if (layer === "outlines") {
            this.pending = this.pending.filter((stroke) => !held.includes(stroke));
            this.loading = this.shown.outlines !== query;
          }
          if (layer === "tiles") this.onLoading(false);
          this.paint();
        };
        item.whenFullyLoaded(replace);
      },
    });
  }

  /** Put the layers in order; what is being replaced lies below what replaces it until that is loaded. */
  private arrange(): void {
    const world = this.viewer.world;
    for (const layer of LAYERS) {
      const former = this.replaced.filter(([of]) => of === layer).map(([, item]) => item);
      const now = this.layers[layer];
      for (const item of [...former, ...(now ? [now] : [])]) world.setItemIndex(item, world.getItemCount() - 1);
    }
  }

  private removeReplaced(layer: Layer, by: OpenSeadragon.TiledImage): void {
    if (this.layers[layer] !== by) return; // it is replaced itself by now
    const world = this.viewer.world;
    for (const [of, item] of this.replaced) if (of === layer && world.getIndexOfItem(item) >= 0) world.removeItem(item);
    this.replaced = this.replaced.filter(([of]) => of !== layer);
  }

  private listen(element: HTMLElement): void {
    const viewer = this.viewer;
    viewer.addHandler("canvas-press", (event) => {
      if (!this.draws()) return;
      this.drawing = true;
      this.drawn = this.tool;
      this.spoiled = false;
      this.stroke = [this.place(event.position)];
      this.paint();
    });
    viewer.addHandler("canvas-drag", (event) => {
      if (!this.drawing && !this.draws()) {
        this.whole = false;
        return;
      }
      event.preventDefaultAction = true;
      if (!this.drawing) return;
      this.extend(this.place(event.position));
    });
    viewer.addHandler("canvas-drag-end", (event) => {
      if (this.drawing || this.draws()) event.preventDefaultAction = true;
    });
    viewer.addHandler("canvas-pinch", () => {
      this.whole = false;
      this.cancel();
    });
    viewer.addHandler("canvas-release", () => this.release());
    viewer.addHandler("canvas-scroll", () => {
      this.whole = false;
    });
    element.addEventListener("pointermove", (event) => {
      const box = element.getBoundingClientRect();
      this.pointer = [event.clientX - box.left, event.clientY - box.top];
      this.paint();
    });
    element.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.paint();
    });
    element.addEventListener("dblclick", () => this.finishOutline());
  }

  private draws(): boolean {
    return this.tool !== "move" && !this.panning && this.info !== null;
  }

  private extend(point: Point): void {
    const last = this.stroke[this.stroke.length - 1];
    const scale = this.scale();
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) * scale >= STEP) {
      this.stroke.push(point);
      this.paint();
    }
  }

  private release(): void {
    if (!this.drawing || this.spoiled) return;
    this.drawing = false;
    const points = this.stroke;
    this.stroke = [];
    if (!points.length) return;
    if (this.drawn !== "outline") this.commit(this.drawn, points);
    else if (points.length > 4) this.commit("outline", [...this.corners.splice(0), ...points]);
    else if (this.tool === "outline") this.addCorner(points[0]!);
    this.paint();
  }

  private addCorner(point: Point): void {
    const first = this.corners[0];
    const near = first && Math.hypot(point[0] - first[0], point[1] - first[1]) * this.scale() < CLOSE;
    if (near && this.corners.length > 2) this.finishOutline();
    else this.corners.push(point);
  }

  private commit(tool: Tool, points: Point[]): void {
    const radius = tool === "brush" || tool === "eraser" ? this.radius : 1;
    this.pending.push({ tool, points, radius });
    const rounded = points.map(([x, y]): Point => [Math.round(100 * x) / 100, Math.round(100 * y) / 100]);
    this.onEdit({ tool, points: rounded, radius });
  }

  private place(position: OpenSeadragon.Point): Point {
    const item = this.layers.tiles;
    if (!item) return [0, 0];
    const point = item.viewerElementToImageCoordinates(position);
    return [point.x, point.y];
  }

  /** Screen pixels of an image pixel. */
  private scale(): number {
    const item = this.layers.tiles;
    return item ? item.viewportToImageZoom(this.viewer.viewport.getZoom(true)) : 1;
  }

  protected paint(): void {
    const canvas = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    const item = this.layers.tiles;
    if (!pen) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!item) return;
    const scale = this.scale();
    this.onZoom(Math.round(100 * scale));
    const to = (point: Point): Point => {
      const found = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(point[0], point[1]));
      return [found.x, found.y];
    };
    if (this.mark) {
      const [left, top] = to([this.mark.x, this.mark.y]);
      pen.strokeStyle = "#ffd24a";
      pen.lineWidth = 2;
      pen.setLineDash([8, 5]);
      pen.strokeRect(left, top, this.mark.width * scale, this.mark.height * scale);
      pen.setLineDash([]);
    }
    for (const { tool, points, radius } of this.pending) this.line(pen, tool, points.map(to), radius * scale, 0.45);
    if (this.stroke.length) this.line(pen, this.drawn, this.stroke.map(to), this.radius * scale, 0.7);
    if (this.tool === "outline" && this.corners.length) {
      const points = this.corners.map(to);
      if (this.pointer && !this.drawing) points.push(this.pointer);
      pen.beginPath();
      points.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = 1.5;
      pen.stroke();
      this.corners.map(to).forEach(([x, y], k) => {
        pen.beginPath();
        pen.arc(x, y, k ? 3 : 6, 0, 7);
        pen.fillStyle = k ? "#ffffff" : "#ffd24a";
        pen.fill();
      });
    }
    if (this.pointer && this.draws() && (this.tool === "brush" || this.tool === "eraser")) {
      pen.beginPath();
      pen.arc(this.pointer[0], this.pointer[1], Math.max(this.radius * scale, 1), 0, 7);
      pen.lineWidth = 3;
      pen.strokeStyle = "rgba(0,0,0,0.5)";
      pen.stroke();
      pen.lineWidth = 1.2;
      pen.strokeStyle = this.tool === "brush" ? "#7ff0dc" : "#ff9d8a";
      pen.stroke();
    }
  }

  private line(pen: CanvasRenderingContext2D, tool: Tool, points: Point[], radius: number, strength: number): void {
    const colours: Record<Tool, string> = {
      move: "#fff",
      brush: "#5fe8cf",
      outline: "#5fe8cf",
      eraser: "#ff8a73",
      delete: "#ff5a5a",
      split: "#ffd24a",
      merge: "#6cb6ff",
      fill: "#5fe8cf",
    };
    pen.save();
    pen.globalAlpha = strength;
    pen.strokeStyle = pen.fillStyle = colours[tool];
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = tool === "brush" || tool === "eraser" ? Math.max(2 * radius, 1) : 3;
    pen.beginPath();
    points.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (points.length === 1) pen.lineTo(points[0]![0] + 0.01, points[0]![1]);
    if (tool === "outline" && points.length > 2) {
      pen.closePath();
      pen.lineWidth = 2;
      pen.globalAlpha = strength / 2;
      pen.fill();
      pen.globalAlpha = strength;
    }
    pen.stroke();
    pen.restore();
  }
}
