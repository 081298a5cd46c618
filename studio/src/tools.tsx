// The tools above the image, and how the image is shown below it.

import {
  Brush,
  Combine,
  Eraser,
  Eye,
  Hand,
  Maximize,
  Minus,
  PaintBucket,
  Plus,
  Redo2,
  Scissors,
  Spline,
  Trash2,
  Undo2,
} from "lucide-preact";
import { useState } from "preact/hooks";
import type { Channel, ImageInfo, Mask } from "./api";
import type { Look, Tool } from "./viewer";

export const TOOLS: { tool: Tool; key: string; name: string; how: string; icon: typeof Hand }[] = [
  { tool: "move", key: "v", name: "Move", how: "Drag to move the image; the wheel or two fingers zoom.", icon: Hand },
  { tool: "brush", key: "b", name: "Brush", how: "Begin inside a cell to make it larger, or outside for a new cell.", icon: Brush },
  { tool: "eraser", key: "e", name: "Eraser", how: "Wipe away what is no cell. A piece cut off becomes a cell of its own.", icon: Eraser },
  { tool: "outline", key: "o", name: "Outline", how: "Drag around a new cell, or click corner by corner and then on the first one.", icon: Spline },
  { tool: "split", key: "s", name: "Split", how: "Draw a line through a cell that is really two.", icon: Scissors },
  { tool: "merge", key: "m", name: "Merge", how: "Draw a line from one piece to the other: they become one cell.", icon: Combine },
  { tool: "delete", key: "d", name: "Delete", how: "Click on what is no cell, or draw across several.", icon: Trash2 },
  { tool: "fill", key: "f", name: "Fill", how: "Click on a cell to fill the holes inside it.", icon: PaintBucket },
];

export function Toolbar(props: {
  tool: Tool;
  setTool: (tool: Tool) => void;
  radius: number;
  setRadius: (radius: number) => void;
  mask: Mask;
  undo: () => void;
  redo: () => void;
}) {
  const sized = props.tool === "brush" || props.tool === "eraser";
  return (
    <div class="toolbar" role="toolbar" aria-label="Tools">
      {TOOLS.map(({ tool, key, name, how, icon: Icon }) => (
        <button
          key={tool}
          class={tool === props.tool ? "tool chosen" : "tool"}
          aria-pressed={tool === props.tool}
          title={`${name} (${key.toUpperCase()}): ${how}`}
          onClick={() => props.setTool(tool)}
        >
          <Icon size={19} aria-hidden="true" />
          <span>{name}</span>
        </button>
      ))}
      <span class="gap" />
      <button class="tool" disabled={!props.mask.undo} title="Undo (Ctrl+Z)" onClick={props.undo}>
        <Undo2 size={19} aria-hidden="true" />
        <span>Undo</span>
      </button>
      <button class="tool" disabled={!props.mask.redo} title="Redo (Ctrl+Shift+Z)" onClick={props.redo}>
        <Redo2 size={19} aria-hidden="true" />
        <span>Redo</span>
      </button>
      <p class="how" aria-live="polite">
        {TOOLS.find(({ tool }) => tool === props.tool)?.how}
      </p>
      {sized && (
        <label class="size">
          Size
          <input
            type="range"
            min={1}
            max={60}
            value={props.radius}
            onInput={(event) => props.setRadius(Number(event.currentTarget.value))}
          />
        </label>
      )}
    </div>
  );
}

export function ViewBar(props: {
  info: ImageInfo;
  mask: Mask;
  look: Look;
  setLook: (look: Look) => void;
  percent: number | null;
  zoom: (factor: number) => void;
  home: () => void;
}) {
  const { look, setLook } = props;
  return (
    <div class="viewbar">
      <span class="count">
        <strong>{props.mask.cells}</strong> {props.mask.cells === 1 ? "cell" : "cells"}
      </span>
      <label class="switch">
        <input
          type="checkbox"
          checked={look.outlines}
          onChange={(event) => setLook({ ...look, outlines: event.currentTarget.checked })}
        />
        Outlines
      </label>
      <Fill value={look.fill} set={(fill) => setLook({ ...look, fill })} />
      <Brightness {...props} shown={look.channels} show={(channels) => setLook({ ...look, channels })} />
      <span class="gap" />
      <Zoom percent={props.percent} zoom={props.zoom} home={props.home} />
    </div>
  );
}

/** How strongly colours fill the cells. */
export function Fill(props: { value: number; set: (value: number) => void }) {
  return (
    <label class="slider">
      Colour
      <input
        type="range"
        min={0}
        max={1}
        step={0.05}
        value={props.value}
        aria-label="Strength of the colour that fills the cells"
        onInput={(event) => props.set(Number(event.currentTarget.value))}
      />
    </label>
  );
}

/** How large the image is shown, and the buttons for it. */
export function Zoom(props: { percent: number | null; zoom: (factor: number) => void; home: () => void }) {
  return (
    <span class="zoom">
      <button class="small icon" title="Zoom out (-)" aria-label="Zoom out" onClick={() => props.zoom(1 / 1.5)}>
        <Minus size={16} />
      </button>
      <span class="percent">{props.percent === null ? "" : `${props.percent} %`}</span>
      <button class="small icon" title="Zoom in (+)" aria-label="Zoom in" onClick={() => props.zoom(1.5)}>
        <Plus size={16} />
      </button>
      <button class="small icon" title="Whole image (0)" aria-label="Whole image" onClick={props.home}>
        <Maximize size={16} />
      </button>
    </span>
  );
}

/** What is black and what is white in the picture, channel by channel; it opens above the bar that it is in. */
export function Brightness(props: {
  info: Pick<ImageInfo, "channels" | "extremes" | "colours">;
  shown: Channel[];
  show: (channels: Channel[]) => void;
}) {
  const [open, setOpen] = useState(false);
  const channels = props.info.channels.map(
    (channel) => props.shown.find((other) => other.number === channel.number) ?? channel,
  );
  const change = (number: number, values: Partial<Channel>) =>
    props.show(props.shown.map((channel) => (channel.number === number ? { ...channel, ...values } : channel)));
  const toggle = (channel: Channel) => {
    const without = props.shown.filter((other) => other.number !== channel.number);
    props.show(without.length < props.shown.length ? without : [...without, channel]);
  };
  return (
    <>
      <button class="small" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Eye size={16} aria-hidden="true" /> Brightness
      </button>
      {open && (
        <div class="channels" role="group" aria-label="Brightness of the channels">
          {channels.map((channel) => {
            const [least, greatest] = props.info.extremes[channel.number] ?? [0, 1];
            const step = greatest - least > 20 ? 1 : (greatest - least) / 200 || 0.01;
            const on = props.shown.some((other) => other.number === channel.number);
            const original = props.info.channels[channel.number];
            return (
              <fieldset key={channel.number}>
                {props.info.channels.length > 1 && (
                  <legend>
                    <label>
                      <input type="checkbox" checked={on} onChange={() => toggle(channel)} /> Channel{" "}
                      {channel.number + 1}
                    </label>
                    <select
                      value={channel.colour}
                      aria-label={`Colour of channel ${channel.number + 1}`}
                      onChange={(event) => change(channel.number, { colour: event.currentTarget.value })}
                    >
                      {props.info.colours.map((colour) => (
                        <option key={colour}>{colour}</option>
                      ))}
                    </select>
                  </legend>
                )}
                <label>
                  Black
                  <input
                    type="range"
                    min={least}
                    max={greatest}
                    step={step}
                    value={channel.low}
                    onInput={(event) => change(channel.number, { low: Number(event.currentTarget.value) })}
                  />
                </label>
                <label>
                  White
                  <input
                    type="range"
                    min={least}
                    max={greatest}
                    step={step}
                    value={channel.high}
                    onInput={(event) => change(channel.number, { high: Number(event.currentTarget.value) })}
                  />
                </label>
                {original && (
                  <button class="small" onClick={() => change(channel.number, original)}>
                    As at first
                  </button>
                )}
              </fieldset>
            );
          })}
        </div>
      )}
    </>
  );
}
