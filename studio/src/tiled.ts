// How OpenSeadragon is set up wherever the page shows an image in tiles, with a canvas above it.

import OpenSeadragon from "openseadragon";
import type { Channel, Tiled } from "./api";

const FINGERS = { clickToZoom: false, dblClickToZoom: false, flickEnabled: false };

/** Return a viewer in an element, in which clicks and keys are left to the page. */
function tiledViewer(element: HTMLElement, options: Partial<OpenSeadragon.Options>): OpenSeadragon.Viewer {
  if (!document.querySelector("[data-openseadragon-mobile-css]")) {
    // OpenSeadragon adds a style sheet to the page, which the page's policy forbids, unless it finds one: this is none
    const found = document.createElementNS("urn:none", "style");
    found.setAttribute("data-openseadragon-mobile-css", "");
    document.head.append(found);
  }
  const viewer = new OpenSeadragon.Viewer({
    element,
    drawer: "canvas",
    showNavigationControl: false,
    animationTime: 0.25,
    springStiffness: 9,
    visibilityRatio: 0.3,
    minZoomImageRatio: 0.5,
    maxZoomPixelRatio: 24,
    zoomPerScroll: 1.25,
    imageSmoothingEnabled: false,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
    gestureSettingsTouch: FINGERS,
    gestureSettingsPen: FINGERS,
    crossOriginPolicy: false,
    ajaxWithCredentials: false,
    ...options,
  });
  viewer.addHandler("canvas-key", (event) => {
    event.preventDefaultAction = true;
  });
  return viewer;
}

/** Return the query of tiles that show channels as they are chosen. */
export function channelsQuery(channels: Channel[]): string {
  const shown = channels.map((c) => `${c.number}:${c.low}:${c.high}:${c.colour}`).join(",");
  return `channels=${encodeURIComponent(shown)}`;
}

/** Return where OpenSeadragon finds the tiles of an image, below an address. */
export function tileSource(image: Tiled, base: string, query: string): OpenSeadragon.TileSourceOptions {
  return {
    width: image.width,
    height: image.height,
    tileSize: image.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: image.levels - 1,
    getTileUrl: (level: number, x: number, y: number) => `${base}/${level}/${x}/${y}?${query}`,
  } as unknown as OpenSeadragon.TileSourceOptions;
}

/** An image in tiles, and a canvas above it on which `paint` draws. */
export abstract class TiledView {
  protected readonly viewer: OpenSeadragon.Viewer;
  protected readonly canvas = document.createElement("canvas");
  /** whether the whole image is shown, and is to be so when the window changes */
  protected whole = true;

  constructor(element: HTMLElement, options: Partial<OpenSeadragon.Options> = {}) {
    this.viewer = tiledViewer(element, options);
    this.canvas.className = "strokes";
    element.append(this.canvas);
    for (const name of ["animation", "open", "update-viewport"] as const) {
      this.viewer.addHandler(name, () => this.paint());
    }
    this.viewer.addHandler("resize", () => {
      // OpenSeadragon still moves the image after it has said so
      requestAnimationFrame(() => {
        if (this.whole) this.home(true);
        this.paint();
      });
    });
  }

  zoom(factor: number): void {
    this.whole = false;
    this.viewer.viewport.zoomBy(factor);
    this.viewer.viewport.applyConstraints();
  }

  home(immediately = false): void {
    this.whole = true;
    this.viewer.viewport.goHome(immediately);
  }

  protected abstract paint(): void;
}
