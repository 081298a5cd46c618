// Builds the page of the studio into the Python package. Nothing of it is fetched when the page is used.
import { build } from "esbuild";
import { copyFile, rm } from "node:fs/promises";

const out = "../src/cytoforge/studio/page";
await rm(out, { recursive: true, force: true });
await build({
  entryPoints: { studio: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "linked",
  loader: { ".svg": "dataurl" },
});
await copyFile("src/index.html", `${out}/index.html`);
await copyFile("src/icon.svg", `${out}/icon.svg`);
