/** Sends bytes and tells how many have left: by XMLHttpRequest where there is one, in Node by a stream that is counted. */

export interface SendRequest {
  method: 'POST' | 'PUT' | 'PATCH';
  url: string;
  headers: Record<string, string>;
  body: Blob;
  /** Told of bytes that were handed to the network. */
  onProgress: (sent: number) => void;
  /** Milliseconds without a byte sent or received after which the request counts as dead. */
  stallTimeout: number;
  signal: AbortSignal;
}

export interface SendAnswer {
  /** 0 when there was no answer. */
  status: number;
  header(name: string): string | null;
  text: string;
}

const noAnswer: SendAnswer = { status: 0, header: () => null, text: '' };
/** Bytes. */
const NODE_CHUNK = 64 * 1024;

/** Never rejects: without an answer, for whatever reason, the status is 0. */
export function send(request: SendRequest): Promise<SendAnswer> {
  if (request.signal.aborted) return Promise.resolve(noAnswer);
  return typeof XMLHttpRequest === 'undefined' ? sendByFetch(request) : sendByXhr(request);
}

function sendByXhr({ method, url, headers, body, onProgress, stallTimeout, signal }: SendRequest): Promise<SendAnswer> {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const stall = new StallTimer(stallTimeout, stop);
    const done = (answer: SendAnswer) => {
      stall.end();
      signal.removeEventListener('abort', stop);
      resolve(answer);
    };
    signal.addEventListener('abort', stop, { once: true });
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => {
      stall.restart();
      onProgress(loaded);
    };
    request.onload = () =>
      done({
        status: request.status,
        header: (name) => request.getResponseHeader(name),
        text: request.responseText,
      });
    request.onerror = () => done(noAnswer);
    request.onabort = () => done(noAnswer);
    request.send(body);
  });
}

async function sendByFetch({ method, url, headers, body, ...rest }: SendRequest): Promise<SendAnswer> {
  const { onProgress, stallTimeout, signal } = rest;
  const stalled = new AbortController();
  const stall = new StallTimer(stallTimeout, () => stalled.abort());
  try {
    const answer = await fetch(url, {
      method,
      ...streamed(headers, body, (sent) => {
        stall.restart();
        onProgress(sent);
      }),
      signal: AbortSignal.any([signal, stalled.signal]),
    });
    const text = await answer.text();
    return { status: answer.status, header: (name) => answer.headers.get(name), text };
  } catch {
    return noAnswer;
  } finally {
    stall.end();
  }
}

/**
 * Node takes a Content-Length beside a stream, so the bytes need no chunked framing, which S3 refuses. Elsewhere (service
 * workers) the Blob is sent as it is, and its progress is not told.
 */
function streamed(headers: Record<string, string>, body: Blob, onProgress: (sent: number) => void): RequestInit {
  if (!('process' in globalThis)) return { headers, body };
  const bytes = (async function* () {
    let sent = 0;
    while (sent < body.size) {
      const piece = new Uint8Array(await body.slice(sent, sent + NODE_CHUNK).arrayBuffer());
      yield piece;
      sent += piece.length;
      onProgress(sent);
    }
  })();
  const init: RequestInit & { duplex: 'half' } = {
    headers: { 'content-length': String(body.size), ...headers },
    body: toStream(bytes),
    duplex: 'half',
  };
  return init;
}

function toStream(bytes: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream(
    {
      pull: async (controller) => {
        const { value, done } = await bytes.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => {
        await bytes.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Runs out unless it is restarted in time, or has ended. */
class StallTimer {
  readonly #limit: number;
  readonly #onStall: () => void;
  #timer: ReturnType<typeof setTimeout>;
  #hasEnded = false;

  constructor(limit: number, onStall: () => void) {
    this.#limit = limit;
    this.#onStall = onStall;
    this.#timer = setTimeout(onStall, limit);
  }

  /** Also called when the answer is there already: a body is read to its end all the same. */
  restart(): void {
    if (this.#hasEnded) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onStall, this.#limit);
  }

  end(): void {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
  }
}
