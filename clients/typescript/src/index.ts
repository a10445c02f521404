/** Client of Stowage. `upload` is written by hand; everything else is generated from openapi.yaml. */

export { createClient, createConfig } from './generated/client/index.ts';
export * from './generated/index.ts';
export { UploadFailed, type UploadMethod, type UploadOptions, upload } from './upload.ts';
