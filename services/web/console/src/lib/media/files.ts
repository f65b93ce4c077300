/** Files that were dropped or chosen, also whole folders. */

const MEDIA_ENDINGS =
  /\.(3gp|aac|ac3|aif|aiff|amr|au|avi|caf|flac|flv|gsm|m4a|m4b|m4v|mka|mkv|mov|mp2|mp3|mp4|mpe?g|mts|m2ts|oga|ogg|ogv|opus|ra|rm|spx|ts|voc|w64|wav|weba|webm|wma|wmv)$/i;

export const isMedia = (file: File): boolean => /^(audio|video)\//.test(file.type) || MEDIA_ENDINGS.test(file.name);

/** All files of a drop, with those in folders. Must be called while the event is handled. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return [...transfer.files];
  const files = await Promise.all(entries.map(filesOf));
  return files.flat();
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const children: FileSystemEntry[] = [];
  for (;;) {
    // Browsers give the entries of a folder in parts, and an empty part at the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    children.push(...part);
  }
  const files = await Promise.all(children.map(filesOf));
  return files.flat();
}
