/** `npm run openapi`: writes `openapi.yaml` from the routes. Nothing is connected to for it. */
import { writeFileSync } from 'node:fs';
import { openApiDocument } from '../src/openapi-document.ts';

writeFileSync(new URL('../openapi.yaml', import.meta.url), await openApiDocument());
