/* Calls of the REST API with the session of this page. */

export class ApiError extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code || "";
    this.errors = body.errors || [];
  }
}

export function csrfToken() {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith("csrftoken="));
  return cookie ? decodeURIComponent(cookie.slice("csrftoken=".length)) : "";
}

/** Send a request and return its JSON; null where the answer has none. Throws ApiError, or TypeError when offline. */
export async function request(url, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(url, { method, headers, body: payload, signal, credentials: "same-origin" });
  const text = await answer.text();
  const isJson = (answer.headers.get("Content-Type") || "").includes("json");
  const parsed = isJson && text ? JSON.parse(text) : null;
  if (!answer.ok) throw new ApiError(answer.status, parsed || {});
  return parsed;
}

/** Turn any failure of a request into a sentence for the reader. */
export function explain(error) {
  if (error instanceof ApiError) {
    if (error.status === 401 || error.status === 403) return "You are no longer logged in. Reload the page to log in again.";
    return error.errors.length ? error.errors.map((item) => item.message).join(" ") : error.message;
  }
  if (error instanceof TypeError) return "The server cannot be reached. Check the connection and try again.";
  return error.message;
}
