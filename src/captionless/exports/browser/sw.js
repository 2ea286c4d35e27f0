/**
 * The service worker: keeps the page for use without a network, and adds the headers that threads and safety need.
 *
 * The export puts `const BUILD = {version, headers, page, model}` before this: a digest of all files, the headers, the
 * small files, which are fetched at once, and the large ones, which are kept when they are first asked for.
 */

const PREFIX = `captionless ${registration.scope} `;
const place = (name) => new URL(name, registration.scope).href;
const kept = new Set([...BUILD.page, ...BUILD.model].map(place));

addEventListener("install", (event) => {
  const fresh = BUILD.page.map((name) => new Request(place(name), { cache: "reload" }));
  event.waitUntil(open().then((cache) => cache.addAll(fresh)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== PREFIX + BUILD.version) await caches.delete(name);
    await clients.claim();
  })());
});

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const name = new URL(url);
  name.search = name.hash = "";
  if (name.href === registration.scope) name.pathname += "index.html";
  if (method === "GET" && kept.has(name.href)) event.respondWith(answer(name.href));
});

async function answer(name) {
  const cache = await open();
  let found = await cache.match(name);
  if (!found) {
    found = await fetch(name, { cache: "no-cache" });
    // Where there is no room, the page works as long as there is a network.
    if (found.ok) cache.put(name, found.clone()).catch(() => {});
  }
  const headers = new Headers(found.headers);
  for (const [header, value] of Object.entries(BUILD.headers)) headers.set(header, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}

function open() {
  return caches.open(PREFIX + BUILD.version);
}
