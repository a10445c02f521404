/** Where the part links of direct uploads lead when the service stores on its own disk: what a presigned part URL is to S3. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { wantBody } from '../../http/body-guard.ts';
import type { App } from '../../http/openapi.ts';
import { binary } from '../../http/schema-types.ts';
import { Problem } from '../../problems.ts';
import type { DiskObjectStore } from '../../storage/disk/disk-object-store.ts';
import type { PartPermission } from '../../storage/disk/links.ts';
import { NoSuchUpload, UploadCompleting } from '../../storage/object-store.ts';
import { meteredBody, type UploadContext } from '../context.ts';
import { incompleteBody } from '../metered-source.ts';
import { bodyOf } from './raw.ts';
import { requestSignal } from './upload-request.ts';

export interface DiskPartOptions {
  context: UploadContext;
  store: DiskObjectStore;
  stopping: AbortSignal;
}

/** The signature in the token is the permission, so there is no caller; places and memory are those of the upload's owner. */
export function diskPartRoute(app: App, { context, store, stopping }: DiskPartOptions): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.put(
    '/v1/links/parts/:token',
    {
      schema: {
        operationId: 'uploadPart',
        tags: ['Uploads'],
        summary: 'Send a part to the disk object store',
        description:
          'Where the links of `createUpload` lead when the service stores on its own disk. Do not build these URLs yourself.',
        security: [],
        params: z.object({ token: z.string().max(8192) }),
      },
      config: {
        public: true,
        streamsBody: true,
        requestBody: { required: true, content: { 'application/octet-stream': { schema: binary } } },
        success: { status: 204, description: 'The part has arrived' },
        problems: [
          'invalid-parameter',
          'not-found',
          'link-expired',
          'incomplete-body',
          'too-large',
          'request-timeout',
          'too-many-uploads',
          'overloaded',
        ],
      },
    },
    async (request, reply) => {
      const permission = store.readPartLink(request.params.token);
      if (permission === 'invalid') throw new Problem('not-found', { detail: 'The link is not valid. Get a new one.' });
      if (permission === 'expired') throw new Problem('link-expired', { detail: 'Get a new link.' });
      if (permission.size > context.buffers.budget)
        throw new Problem('link-expired', {
          detail: 'The part is larger than the memory that the service has now. Begin a new upload.',
        });
      const signal = requestSignal(reply, stopping);
      const callerId = scopeOf(permission.key);
      const leave = await context.admission.enter(callerId, signal);
      try {
        await receivePart(request, permission, callerId, signal);
      } finally {
        leave();
      }
      return reply.code(204).send() as never;
    },
  );

  async function receivePart(
    request: FastifyRequest,
    { size, ...address }: PartPermission,
    callerId: string,
    signal: AbortSignal,
  ): Promise<void> {
    const buffer = await context.buffers.of(callerId).acquire(size, context.config.UPLOAD_WAIT, signal);
    try {
      let length = 0;
      const body = bodyOf(request.raw, () => wantBody(request));
      for await (const chunk of meteredBody(context, body, signal, callerId)) {
        if (length + chunk.length > size)
          throw new Problem('too-large', { detail: `The part has ${size} bytes, and this is more.` });
        length += chunk.copy(buffer.memory, length);
      }
      if (length !== size) throw incompleteBody();
      await store.uploadPart(address, buffer.memory.subarray(0, size), { signal });
    } catch (error) {
      if (error instanceof NoSuchUpload)
        throw new Problem('not-found', { detail: 'The upload is complete or was cancelled.' });
      if (error instanceof UploadCompleting)
        throw new Problem('wrong-state', { detail: 'The upload is being completed and takes no parts.' });
      throw error;
    } finally {
      buffer.release();
    }
  }
}

/** Whose upload it is, as far as its key tells: a link knows no caller. */
function scopeOf(key: string): string {
  return `key ${key.split('/assets/', 1)[0]}`;
}
