/** What is made of files, and what it costs to serve that. */
import type { Row } from '../report.ts';
import type { Stage } from '../stage.ts';
import type { Case, CaseOptions } from './case.ts';
import { photos } from './photos.ts';
import { variants } from './variants.ts';

const parts: readonly Case[] = [photos, variants];

export async function processing(stage: Stage, options: CaseOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const part of parts) rows.push(...(await part(stage, options)));
  return rows;
}
