// The list of images: what they look like, how far each is, and how to add more.

import { Check, CircleDashed, Film, ImagePlus, PencilLine } from "lucide-preact";
import { imagePath, type ImageEntry } from "./api";
import { READ } from "./drop";

const STATES = {
  empty: { words: "no cells yet", icon: CircleDashed },
  draft: { words: "to correct", icon: PencilLine },
  done: { words: "finished", icon: Check },
};

export function ImageList(props: {
  images: ImageEntry[];
  open: string | null;
  choose: (name: string) => void;
  add: (files: FileList) => void;
  /** opens the images as a movie, where they may be its frames */
  asMovie: { words: string; open: () => void } | null;
}) {
  const done = props.images.filter((image) => image.status === "done").length;
  return (
    <nav class="images" aria-label="Images">
      <header>
        <h2>Images</h2>
        <p>
          {done} of {props.images.length} finished
        </p>
        <progress max={Math.max(props.images.length, 1)} value={done} aria-label="Images that are finished" />
      </header>
      <ul>
        {props.images.map((image) => {
          const { words, icon: Icon } = STATES[image.status];
          const cells = image.cells === null || image.status === "empty" ? "" : `, ${image.cells} ${image.cells === 1 ? "cell" : "cells"}`;
          return (
            <li key={image.name}>
              <button
                class={image.name === props.open ? "image open" : "image"}
                aria-current={image.name === props.open}
                onClick={() => props.choose(image.name)}
                title={image.name}
              >
                <img loading="lazy" alt="" src={`${imagePath(image.name)}/tiles/0/0/0`} />
                <span>
                  <strong>{image.name}</strong>
                  <small class={`is-${image.status}`}>
                    <Icon size={13} aria-hidden="true" /> {words}
                    {cells}
                  </small>
                </span>
              </button>
            </li>
          );
        })}
      </ul>
      {props.asMovie && (
        <button class="frames" title="The images are numbered one after another; in a movie the cells can be followed" onClick={props.asMovie.open}>
          <Film size={17} aria-hidden="true" /> {props.asMovie.words}
        </button>
      )}
      <label class="button add" title="PNG, TIFF, JPEG, BMP, WebP, NPY; you can also drop files or a folder on the page">
        <ImagePlus size={17} aria-hidden="true" /> Add images
        <input
          type="file"
          multiple
          accept={READ.join()}
          onChange={(event) => {
            if (event.currentTarget.files) props.add(event.currentTarget.files);
            event.currentTarget.value = "";
          }}
        />
      </label>
    </nav>
  );
}
