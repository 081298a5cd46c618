// The page of the studio: images on the left, the open one in the middle, the steps on the right.

import { CircleHelp, Moon, Sun, X } from "lucide-preact";
import { render } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, Refusal, type ImageInfo, type Job, type Mask, type State } from "./api";
import { chosen, dropped, type Given } from "./drop";
import { MOVIE_KEYS, MoviePage } from "./movie";
import { ImageList } from "./images";
import { EditSync, MaskSync, type Saving } from "./mask";
import { outcomes, type Panel } from "./outcomes";
import { Panels } from "./panel";
import { Steps } from "./steps";
import { Toolbar, TOOLS, ViewBar } from "./tools";
import { movies } from "./tracks";
import { CellViewer, type Box, type Look, type Tool } from "./viewer";
import { Work } from "./work";
import "./styles/index.css";

const BUSY = 1000; // ms between two looks at the state while something is at work
const CALM = 3000;
const READING = 6000; // ms that a message stays, and for each of its letters
const READING_LETTER = 60;

function stored<T>(key: string, otherwise: T): T {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "") as T;
  } catch {
    return otherwise;
  }
}

function App() {
  const [state, setState] = useState<State | null>(null);
  const [gone, setGone] = useState(false);
  const [name, setName] = useState<string | null>(stored("open", null));
  const [info, setInfo] = useState<ImageInfo | null>(null);
  const [mask, setMask] = useState<Mask | null>(null);
  const [saving, setSaving] = useState<Saving>("saved");
  const [look, setLook] = useState<Look | null>(null);
  const [tool, setTool] = useState<Tool>("move");
  const [radius, setRadius] = useState(stored("radius", 6));
  const [percent, setPercent] = useState<number | null>(null);
  const [loading, setLoading] = useState(true);
  const [ready, setReady] = useState(false);
  const [message, setMessage] = useState<string | null>(null);
  const [help, setHelp] = useState(false);
  const [notes, setNotes] = useState(true);
  const [coming, setComing] = useState<string | null>(null);
  const [panel, setPanel] = useState<Panel | null>(null);
  const [dark, setDark] = useState(
    stored<boolean>("dark", window.matchMedia("(prefers-color-scheme: dark)").matches),
  );
  const [asMovie, setAsMovie] = useState(stored("as-movie", true));
  const place = useRef<HTMLDivElement>(null);
  const viewer = useRef<CellViewer | null>(null);
  const sync = useRef<MaskSync | null>(null);
  const wanted = useRef<{ image: string; box: Box } | null>(null); // to be pointed out when its image is there

  const refresh = useCallback(async () => {
    try {
      setState(await api.state());
      setGone(false);
    } catch (error) {
      if (error instanceof Refusal) setMessage(error.message);
      else setGone(true);
    }
  }, []);

  const act = useCallback(
    (what: () => Promise<unknown>) => {
      what()
        .then(() => setMessage(null))
        .catch((error: Error) => setMessage(error.message))
        .finally(refresh);
    },
    [refresh],
  );

  // what the server knows
  const busy = state?.jobs.some((job) => job.state === "running" || job.state === "waiting") ?? false;
  useEffect(() => {
    void refresh();
    const timer = setInterval(refresh, busy ? BUSY : CALM);
    return () => clearInterval(timer);
  }, [refresh, busy]);

  useEffect(() => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    localStorage.setItem("dark", JSON.stringify(dark));
  }, [dark]);

  useEffect(() => {
    if (!message) return;
    const timer = setTimeout(() => setMessage(null), READING + READING_LETTER * message.length);
    return () => clearTimeout(timer);
  }, [message]);

  useEffect(() => localStorage.setItem("as-movie", JSON.stringify(asMovie)), [asMovie]);
  useEffect(() => localStorage.setItem("radius", JSON.stringify(radius)), [radius]);

  // the open image
  const entry = state?.images.find((image) => image.name === name);
  useEffect(() => {
    const first = state?.images[0];
    if (state && !entry && first) setName((state.images.find(({ status }) => status !== "done") ?? first).name);
    if (state && !state.images.length) setName(null);
  }, [state, entry]);

  const asked = useRef<string | null>(null); // what comes of another image comes too late
  const open = useCallback(async (wanted: string) => {
    try {
      const found = await api.image(wanted);
      if (asked.current !== wanted) return;
      localStorage.setItem("open", JSON.stringify(wanted));
      setInfo(found);
      setMask(found);
      setLook((former) => ({ outlines: true, fill: former?.fill ?? 0.25, channels: found.channels }));
    } catch (error) {
      setLoading(false);
      setMessage((error as Error).message);
    }
  }, []);

  useEffect(() => {
    asked.current = name;
    setInfo(null);
    setMask(null);
    if (name) void open(name);
  }, [name, open]);

  useEffect(() => {
    if (place.current && !viewer.current) {
      viewer.current = new CellViewer(place.current);
      viewer.current.onZoom = setPercent;
      viewer.current.onLoading = setLoading;
      viewer.current.setRadius(radius);
      setReady(true);
    }
  });

  useEffect(() => {
    if (!info || !look || !viewer.current) return;
    const shown = viewer.current;
    let refused = false;
    const changed = (found: Mask, how: Saving) => {
      told(how);
      if (how === "saved") {
        if (!refused) setMessage(null);
        refused = false;
        void refresh();
      }
      if (sync.current !== own) return; // another image is shown by now
      setMask(found);
      shown.settle(found.revision, own.strokes);
    };
    const own = new MaskSync(info, info, changed, (sentence) => {
      refused = true;
      setMessage(sync.current === own ? sentence : `${info.name}: ${sentence}`);
      if (sync.current === own) shown.drop(0);
    });
    sync.current = own;
    shown.onEdit = (edit) => own.send(edit);
    shown.open(info, look);
    if (wanted.current?.image === info.name) shown.pointOut(wanted.current.box);
    wanted.current = null;
    return () => {
      if (sync.current === own) sync.current = null;
    };
  }, [info, ready]); // the image may be there before the place to show it

  useEffect(() => {
    if (info && look && mask && viewer.current) viewer.current.show(look, mask.revision, sync.current?.strokes);
  }, [look, mask?.revision]);

  // another tab, or work that has ended, has changed the mask
  useEffect(() => {
    if (entry?.revision && mask && sync.current?.idle && entry.revision !== mask.revision && saving === "saved") {
      void api.image(entry.name).then((found) => {
        if (sync.current?.info.name === found.name && sync.current.idle) {
          sync.current.state = found;
          setMask(found);
        }
      });
    }
  }, [entry?.revision]);

  useEffect(() => {
    viewer.current?.setTool(tool);
  }, [tool]);
  useEffect(() => {
    viewer.current?.setRadius(radius);
  }, [radius]);

  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => {
      if (EditSync.working) event.preventDefault();
    };
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, []);

  const told = (how: Saving) => setSaving(how === "saved" && EditSync.working ? "saving" : how);
  const pick = (chosen: Tool) => {
    viewer.current?.setTool(chosen); // at once: a stroke may begin before the page is drawn anew
    setTool(chosen);
  };
  const undo = () => sync.current?.send({ tool: "undo" });
  const redo = () => sync.current?.send({ tool: "redo" });
  const go = (by: number) => {
    if (!state || !name) return;
    const place = state.images.findIndex((image) => image.name === name) + by;
    const wanted = state.images[place];
    if (wanted) setName(wanted.name);
  };
  const follow = () => {
    if (!state || !name) return;
    const place = state.images.findIndex((image) => image.name === name);
    const order = [...state.images.slice(place + 1), ...state.images.slice(0, place)];
    const wanted = order.find(({ status }) => status !== "done");
    if (wanted) setName(wanted.name);
  };
  const mark = (done: boolean) => {
    const own = sync.current;
    if (!name || !own) return;
    act(async () => {
      while (!own.idle) await new Promise((resolve) => setTimeout(resolve, 50));
      const found = await api.mark(name, done);
      own.state = found;
      if (sync.current === own) setMask(found);
    });
  };
  const suggest = (job: Job) =>
    act(async () => {
      const best = (await api.found(job.number)).suggestions?.[0];
      if (best) pointOut(best.image, best);
    });
  const pointOut = (image: string, box: Box) => {
    if (image === info?.name) viewer.current?.pointOut(box);
    else wanted.current = { image, box };
    setName(image);
  };
  const lookAt = (image: string, cell?: number) =>
    cell === undefined ? setName(image) : act(async () => pointOut(image, await outcomes.cell(image, cell)));

  const frames = state?.frames
    ? {
        words: state.movies.length ? `Add ${state.frames - state.movies[0]!.frames} frames to the movie` : "Open as a movie",
        open: () => act(() => movies.open().then(() => setAsMovie(true))),
      }
    : null;
  const movie = asMovie && (state?.movies.length ?? 0) > 0;

  // keys
  useEffect(() => {
    const panning = (event: KeyboardEvent) => {
      if (event.key === " " && !(event.target as HTMLElement).closest("button, a, input, select")) {
        viewer.current?.setPanning(event.type === "keydown");
        event.preventDefault();
      }
    };
    const press = (event: KeyboardEvent) => {
      if (movie) {
        if (event.key === "?") setHelp(true);
        else if (event.key === "Escape") setHelp(false);
        return;
      }
      panning(event);
      const target = event.target as HTMLElement;
      if (target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
      const key = event.key.toLowerCase();
      if ((event.ctrlKey || event.metaKey) && key === "z") (event.shiftKey ? redo : undo)();
      else if ((event.ctrlKey || event.metaKey) && key === "y") redo();
      else if (event.ctrlKey || event.metaKey || event.altKey) return;
      else if (key === "escape") {
        if (!viewer.current?.cancel()) {
          setHelp(false);
          viewer.current?.pointOut(null);
        }
      } else if (key === "enter" && !target.closest("button, a")) viewer.current?.finishOutline();
      else if (key === "[") setRadius((size) => Math.max(1, size - 1));
      else if (key === "]") setRadius((size) => Math.min(60, size + 1));
      else if (key === "+" || key === "=") viewer.current?.zoom(1.5);
      else if (key === "-") viewer.current?.zoom(1 / 1.5);
      else if (key === "0") viewer.current?.home();
      else if (key === "n") go(1);
      else if (key === "p") go(-1);
      else if (key === "h") setLook((former) => former && { ...former, outlines: !former.outlines, fill: former.outlines ? 0 : 0.25 });
      else if (key === "?") setHelp(true);
      else if (key.startsWith("arrow") && !target.closest("input")) {
        const by = { arrowleft: [-0.1, 0], arrowright: [0.1, 0], arrowup: [0, -0.1], arrowdown: [0, 0.1] }[key];
        if (by) viewer.current?.pan(by[0]!, by[1]!);
      } else {
        const found = TOOLS.find((other) => other.key === key);
        if (!found) return;
        pick(found.tool);
      }
      event.preventDefault();
    };
    window.addEventListener("keydown", press);
    window.addEventListener("keyup", panning);
    return () => {
      window.removeEventListener("keydown", press);
      window.removeEventListener("keyup", panning);
    };
  });

  // files that are brought in
  const bring = async (files: Given[]) => {
    const failed: string[] = [];
    for (const [place, { file, part }] of files.entries()) {
      setComing(`Bringing in ${place + 1} of ${files.length}: ${file.name}`);
      try {
        await api.upload(file, part);
      } catch (error) {
        failed.push((error as Error).message);
      }
    }
    setComing(null);
    if (!files.length) setMessage("There is no image among these files: PNG, TIFF, JPEG, BMP, WebP and NPY can be brought in this way.");
    else if (failed.length) setMessage(failed.slice(0, 3).join(" ") + (failed.length > 3 ? ` (${failed.length} in all)` : ""));
    await refresh();
  };
  useEffect(() => {
    const over = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      event.preventDefault();
      if (event.dataTransfer) void dropped(event.dataTransfer).then(bring);
    };
    window.addEventListener("dragover", over);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", over);
      window.removeEventListener("drop", drop);
    };
  });

  if (!state) return <p class="begin">{gone ? "The studio is closed. Start it again, and this page goes on." : "Opening…"}</p>;
  const importing = state.jobs.find((job) => job.kind === "import" && (job.state === "running" || job.state === "waiting"));
  return (
    <>
      <header class="top">
        <img src="/page/icon.svg" alt="" width="26" height="26" />
        <h1>cytoforge studio</h1>
        <span class="folder" title={state.folder}>
          {state.folder.split("/").pop()}
        </span>
        {state.movies.length > 0 && (
          <span class="views" role="group" aria-label="What is shown">
            <button class="small" aria-pressed={movie} onClick={() => setAsMovie(true)}>
              Movie
            </button>
            <button class="small" aria-pressed={!movie} onClick={() => setAsMovie(false)}>
              Frames
            </button>
          </span>
        )}
        <span class="gap" />
        <span class={`saving ${gone ? "offline" : saving}`} aria-live="polite">
          {gone || saving === "offline" ? "Not saved yet: the studio does not answer" : saving === "saving" ? "Saving…" : "All is saved"}
        </span>
        <button class="icon" title={dark ? "Light" : "Dark"} aria-label={dark ? "Light colours" : "Dark colours"} onClick={() => setDark(!dark)}>
          {dark ? <Sun size={18} /> : <Moon size={18} />}
        </button>
        <button class="icon" title="Help (?)" aria-label="Help" onClick={() => setHelp(true)}>
          <CircleHelp size={18} />
        </button>
      </header>
      {state.foreign && (
        <div class="banner">
          <p>This folder holds annotations of another program. They can be brought in; the folder itself stays as it is.</p>
          {importing ? <Work job={importing} act={act} /> : <button class="main" onClick={() => act(() => api.work({ kind: "import" }))}>Bring them in</button>}
          <small>{state.foreign}</small>
        </div>
      )}
      {state.notes.length > 0 && notes && (
        <div class="banner notes">
          <ul>
            {state.notes.slice(0, 6).map((note) => (
              <li key={note}>{note}</li>
            ))}
            {state.notes.length > 6 && <li>and {state.notes.length - 6} more</li>}
          </ul>
          <button class="icon" aria-label="Close" onClick={() => setNotes(false)}>
            <X size={16} />
          </button>
        </div>
      )}
      {movie && (
        <MoviePage
          state={state}
          act={act}
          tell={setMessage}
          saving={told}
          openImage={(wanted) => {
            setName(wanted);
            setAsMovie(false);
          }}
        />
      )}
      <main hidden={movie}>
        <ImageList images={state.images} open={name} choose={setName} add={(files) => void bring(chosen(files))} asMovie={frames} />
        <section class="stage" aria-label="Image">
          {mask && <Toolbar {...{ tool, setTool: pick, radius, setRadius, mask, undo, redo }} />}
          <div ref={place} class={`viewer ${tool}`} tabIndex={-1}>
            {!state.images.length && (
              <div class="empty">
                <h2>Drop your images here</h2>
                <p>Files or a whole folder: PNG, TIFF, JPEG, BMP, WebP or NPY. They are copied into the folder of this studio and nowhere else.</p>
              </div>
            )}
            {state.images.length > 0 && loading && <p class="loading">Loading the image…</p>}
          </div>
          {info && mask && look && (
            <ViewBar
              {...{ info, mask, look, setLook, percent }}
              zoom={(factor) => viewer.current?.zoom(factor)}
              home={() => viewer.current?.home()}
            />
          )}
          <Panels shown={panel} state={state} act={act} look={lookAt} close={() => setPanel(null)} />
        </section>
        <Steps state={state} image={entry} mask={mask} dark={dark} act={act} mark={mark} follow={follow} suggest={suggest} show={setPanel} />
      </main>
      {(message || coming) && (
        <div class="toast" role="alert">
          <span>{coming ?? message}</span>
          {!coming && (
            <button class="icon" aria-label="Close" onClick={() => setMessage(null)}>
              <X size={16} />
            </button>
          )}
        </div>
      )}
      {help && <Help movie={movie} close={() => setHelp(false)} />}
    </>
  );
}

const STEPS = [
  "Let the cells be found in an image.",
  "Correct them until you agree with every outline, and say so.",
  "After three to five images, train your own model. It finds cells in the others much better.",
  "Correct those, train again if need be, and take the masks.",
];
const MOVIE_STEPS = [
  "Let the cells be followed: those of the frames, or those that a model finds.",
  "Play the movie. A cell keeps its colour, and daughters get new ones.",
  "Where that is wrong, click on the cell and say what it becomes.",
  "Take the tracks. Shapes of cells are corrected under Frames.",
];

function Help({ movie, close }: { movie: boolean; close: () => void }) {
  const keys = movie ? MOVIE_KEYS : [
    ...TOOLS.map(({ key, name, how }) => [key.toUpperCase(), name, how]),
    ["[  ]", "Size", "of brush and eraser"],
    ["Ctrl+Z", "Undo", "Ctrl+Shift+Z repeats"],
    ["Space", "Move", "while it is held, whatever the tool"],
    ["+  −  0", "Zoom", "in, out, whole image; arrows move"],
    ["H", "Hide", "cells, and show them again"],
    ["N  P", "Next", "image, and the one before"],
    ["Enter", "Close", "an outline; Esc forgets it"],
  ];
  return (
    <div class="large" onClick={close}>
      <div class="help" role="dialog" aria-label="Help" onClick={(event) => event.stopPropagation()}>
        <h2>How it works</h2>
        <ol>
          {(movie ? MOVIE_STEPS : STEPS).map((step) => (
            <li key={step}>{step}</li>
          ))}
        </ol>
        <p>Every {movie ? "correction" : "stroke"} is saved at once. You can close this page, or the computer, at any time.</p>
        <table>
          <tbody>
            {keys.map(([key, name, how]) => (
              <tr key={name! + key}>
                <td>
                  <kbd>{key}</kbd>
                </td>
                <th scope="row">{name}</th>
                <td>{how}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <button class="main" onClick={close}>
          Close
        </button>
      </div>
    </div>
  );
}

render(<App />, document.getElementById("app")!);
