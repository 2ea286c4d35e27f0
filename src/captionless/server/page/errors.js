/** What went wrong with a request, in words for the user. `status` is that of HTTP, 0 if there was no answer. */
export class BackendError extends Error {
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}
