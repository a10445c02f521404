/** The parts that archives need, one of each for a service. */
import type { Core } from '../core.ts';
import { ArchiveMemory } from './archive-memory.ts';
import type { ArchiveService } from './deliver-archive.ts';
import { ArchivesRepository } from './repository.ts';

const services = new WeakMap<object, ArchiveService>();

/** For every feature that sends archives: what they hold in memory is counted together. */
export function archivesOf(core: Core): ArchiveService {
  const known = services.get(core);
  if (known) return known;
  const { reads, downloads: places, metrics, database } = core;
  const made = {
    store: reads,
    places,
    memory: new ArchiveMemory(),
    repository: new ArchivesRepository(database.database),
    onSent: (bytes: number) => metrics.sent(bytes),
  };
  services.set(core, made);
  return made;
}
