// Of requests that overtake each other only the last one counts.

export class Latest {
  #number = 0;
  #timer = 0;
  #running = null;

  // Run job(signal) after `delay` milliseconds; what ran or waited before is called off. Then
  // done(answer) or failed(error) is called, unless something newer was begun meanwhile: an answer
  // that comes late can never overwrite a newer one, even where it could not be aborted any more.
  begin(job, { delay = 0, done, failed }) {
    this.stop();
    const number = this.#number;
    const start = async () => {
      this.#running = new AbortController();
      try {
        const answer = await job(this.#running.signal);
        if (number === this.#number) done(answer);
      } catch (error) {
        if (number === this.#number && error.name !== "AbortError") failed(error);
      }
    };
    if (delay) this.#timer = setTimeout(start, delay);
    else start();
  }

  stop() {
    this.#number += 1;
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
  }
}
