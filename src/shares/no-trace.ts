/** Who comes too late gets the answer of those who come to nothing. */
import type { FastifyReply } from 'fastify';

/** Runs what sends an answer; when it throws, the header fields that it has set are as they were before. */
export async function leavingNoTrace<Result>(reply: FastifyReply, work: () => Promise<Result>): Promise<Result> {
  const before = reply.getHeaders();
  try {
    return await work();
  } catch (error) {
    for (const name of Object.keys(reply.getHeaders())) if (!(name in before)) reply.removeHeader(name);
    reply.headers(before);
    throw error;
  }
}
