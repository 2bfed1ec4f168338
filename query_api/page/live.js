// Looks as they are published, over a WebSocket that comes back by itself.

import { liveAddress } from "./api.js";

const FIRST_DELAY_MS = 400;
const LAST_DELAY_MS = 10_000;

export class LiveLooks {
  #socket = null;
  #timer = null;
  #delay = FIRST_DELAY_MS;
  #closed = false;
  #wake = () => this.#reconnectNow();

  /** `onLook(results, isFirst)`; `results.look` is null before the first look; isFirst: the
   * first of a connection, to be shown whatever its tick, since the log may be another one. `onState("open" | "down")`. */
  constructor(id, { onLook, onState }) {
    this.id = id;
    this.onLook = onLook;
    this.onState = onState;
    addEventListener("online", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
    this.#connect();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    removeEventListener("online", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    this.#socket?.close();
  }

  /** Give up a socket that says nothing and open another. */
  renew() {
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close();
    this.onState("down");
    this.#connect();
  }

  #connect() {
    const socket = new WebSocket(liveAddress(this.id));
    let isFirst = true;
    this.#socket = socket;
    socket.onopen = () => this.onState("open");
    socket.onmessage = ({ data }) => {
      if (this.#closed) return;
      const results = JSON.parse(data);
      if (!results) return;
      this.#delay = FIRST_DELAY_MS;
      this.onLook(results, isFirst);
      isFirst &&= !results.look;
    };
    socket.onclose = () => {
      if (this.#closed) return;
      this.onState("down");
      this.#timer = setTimeout(() => this.#connect(), this.#delay * (0.75 + Math.random() / 2));
      this.#delay = Math.min(LAST_DELAY_MS, this.#delay * 1.8);
    };
  }

  #reconnectNow() {
    if (document.hidden || this.#closed || this.#socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.#timer);
    this.#delay = FIRST_DELAY_MS;
    this.#connect();
  }
}
