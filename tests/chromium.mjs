// Unpacks npm's Chromium into the folder that is given. It carries its own libraries, so it needs no system package.
//   node tests/chromium.mjs FOLDER    FOLDER has node_modules/@sparticuz/chromium
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

const folder = process.argv[2];
const packed = join(folder, 'node_modules', '@sparticuz', 'chromium', 'bin');
const unpacked = (name) => brotliDecompressSync(readFileSync(join(packed, name)));

writeFileSync(join(folder, 'chromium'), unpacked('chromium.br'), { mode: 0o755 });
for (const [name, target] of [
  ['al2023.tar.br', folder], // has the folder lib
  ['swiftshader.tar.br', folder],
  ['fonts.tar.br', folder],
]) {
  mkdirSync(target, { recursive: true });
  execFileSync('tar', ['-xf', '-', '-C', target], { input: unpacked(name), stdio: ['pipe', 'inherit', 'inherit'] });
}
