// Builds the page of the studio into the Python package. Nothing of it is fetched when the page is used.
import { build } from "esbuild";
import { copyFile, readdir, readFile, rm, writeFile } from "node:fs/promises";

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
  legalComments: "none",
  loader: { ".svg": "dataurl" },
});
await copyFile("src/index.html", `${out}/index.html`);
await copyFile("src/icon.svg", `${out}/icon.svg`);

// The licences of all that is bundled go with it.
const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
const licences = [];
for (const name of Object.keys(dependencies)) {
  const folder = `node_modules/${name}`;
  const file = (await readdir(folder)).find((other) => /^licen[cs]e/i.test(other));
  licences.push(`${name} ${dependencies[name]}\n\n${(await readFile(`${folder}/${file}`, "utf8")).trim()}\n`);
}
await writeFile(`${out}/LICENSES.txt`, licences.join(`\n${"-".repeat(80)}\n\n`));
