/** `npm run env:example`: writes `.env.example` from the settings in src/config.ts. */
import { writeFileSync } from 'node:fs';
import { environmentExample } from '../src/config.ts';

writeFileSync(new URL('../.env.example', import.meta.url), environmentExample());
