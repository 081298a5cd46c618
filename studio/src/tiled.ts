// How OpenSeadragon is set up wherever the page shows an image in tiles.

import OpenSeadragon from "openseadragon";

const FINGERS = { clickToZoom: false, dblClickToZoom: false, flickEnabled: false };

/** Return a viewer in an element, in which clicks and keys are left to the page. */
export function tiledViewer(element: HTMLElement, options: Partial<OpenSeadragon.Options> = {}): OpenSeadragon.Viewer {
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

/** Return a canvas that covers an element, to be drawn on above what a viewer shows in it. */
export function strokesAbove(element: HTMLElement): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.className = "strokes";
  element.append(canvas);
  return canvas;
}
