import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = process.env.CARECA_WEB ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
  resolve: { alias: { $lib: fileURLToPath(new URL('src/lib', import.meta.url)) } },
  build: {
    outDir: '../src/careca_web/console/static',
    emptyOutDir: true,
    target: 'es2024',
    // The Content-Security-Policy allows no data: URLs for scripts and styles, so nothing is inlined.
    assetsInlineLimit: 0,
    // The licences of the libraries that the script contains. They must be delivered with it.
    license: { fileName: 'licenses.md' },
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': server, '/v1': server } },
  test: { include: ['src/**/*.test.ts'] },
});
