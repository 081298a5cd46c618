// Files that are dropped on the page or chosen in a dialog, also those inside of dropped folders.

export interface Given {
  file: File;
  part: "images" | "masks";
}

export const READ = [".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp", ".npy", ".nd2", ".czi", ".lif"];
const MASKS = /^(masks?|labels?|annotations?|gt)$/i;
const MOST = 5000;

function sorted(files: { file: File; folder: string }[]): Given[] {
  return files
    .filter(({ file: { name } }) => READ.some((ending) => name.toLowerCase().endsWith(ending)) && !name.startsWith("."))
    .map(({ file, folder }): Given => ({ file, part: MASKS.test(folder) ? "masks" : "images" }))
    .sort((one, other) => one.part.localeCompare(other.part) || one.file.name.localeCompare(other.file.name))
    .slice(0, MOST);
}

async function inside(entry: FileSystemEntry, folder: string): Promise<{ file: File; folder: string }[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ file, folder }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map((other) => inside(other, entry.name)))).flat();
}

export async function dropped(data: DataTransfer): Promise<Given[]> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return sorted((await Promise.all(entries.map((entry) => inside(entry, "")))).flat());
}

export function chosen(files: FileList): Given[] {
  return sorted([...files].map((file) => ({ file, folder: "" })));
}
