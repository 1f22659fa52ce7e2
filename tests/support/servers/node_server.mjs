// The Node upstream of the tests: says which handler ran and what it read. node_server.mjs PORT [folds]
//
// It reads a request as Node's documentation does, by `new URL`. With `folds` it decodes the path once before it looks for
// the handler, and minds no case, as routers of frameworks do.

import http from "node:http";

const [port, folds] = process.argv.slice(2);
const below = (path, prefix) => path === prefix || path.startsWith(`${prefix}/`);

function handler(method, path) {
  if (below(path, "/rest/admin")) return "admin";
  if (below(path, "/rest/pub")) return "pub";
  if (below(path, "/public")) return "public";
  if (below(path, "/write") && method === "POST") return "write";
  if (below(path, "/report") && ["GET", "HEAD"].includes(method)) return "report";
  return "other";
}

function read(request) {
  const url = new URL(request.url, `http://${request.headers.host}`);
  const path = folds ? decodeURIComponent(url.pathname).toLowerCase() : url.pathname;
  // Dots that end a name belong to no name that is looked up.
  return { path, host: url.hostname.replace(/\.+$/, "") };
}

const server = http.createServer((request, response) => {
  let ran = "";
  let answer = {};
  try {
    answer = { method: request.method, ...read(request) };
    ran = handler(answer.method, answer.path);
  } catch {
    response.statusCode = 400;
  }
  const user = request.headers["x-latchkey-user"] ?? null;
  const scopes = request.headers["x-latchkey-scopes"] ?? null;
  const body = JSON.stringify({ handler: ran, ...answer, user, scopes });
  response.setHeader("content-type", "application/json");
  response.setHeader("content-length", Buffer.byteLength(body));
  response.setHeader("x-ran", ran);
  response.end(request.method === "HEAD" ? undefined : body);
});
server.listen(Number(port), "127.0.0.1");
