/** Client of Stowage. `upload` is written by hand; everything else is generated from openapi.yaml. */

export { UploadFailed } from './failure.ts';
export { createClient, createConfig } from './generated/client/index.ts';
export * from './generated/index.ts';
export type { Backoff } from './patience.ts';
export {
  findPreviousUploads,
  forgetPreviousUpload,
  type PreviousUpload,
  type UploadStorage,
} from './previous-uploads.ts';
export { type UploadMethod, type UploadOptions, upload } from './upload.ts';
