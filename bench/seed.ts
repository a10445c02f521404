/** Databases with many assets, made by SQL: there are no bytes behind them. */
import { Client } from 'pg';

/** So many assets of one owner, a second apart, with their quota; then what autovacuum would do. */
export async function seedAssets(databaseUrl: string, ownerId: string, count: number): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    // It would be among what is measured; what it would do is done below.
    await client.query('alter table assets set (autovacuum_enabled = false)');
    await client.query(
      `with made as (
         insert into projects (id, name, created_by) select 'project-' || n, 'project', $1 from generate_series(0, 19) as n
         on conflict do nothing returning id
       ) insert into project_members (project_id, subject, role) select id, $1, 'manager' from made`,
      [ownerId],
    );
    await client.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, sha256, metadata, object_key,
         cache_control, created_at, updated_at)
       select (lpad(to_hex(1700000000000 + n * 1000::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
         $1, 'project-' || n % 20, 'file-' || md5(n::text) || '.png', 'ready', 'image', 'image/png', n % 1000000 + 1,
         decode(md5(n::text) || md5(n::text), 'hex'), '{"album":"summer"}', 'projects/bench/assets/' || n || '/original',
         'private, max-age=3600, immutable', moment, moment
       from generate_series(1, $2::int) as n, lateral (select to_timestamp(1700000000 + n) as moment) as made`,
      [ownerId, count],
    );
    await client.query(
      `insert into quotas (owner_id, used_bytes, file_count) select owner_id, sum(size), count(*) from assets group by owner_id`,
    );
    await client.query('vacuum analyze assets');
    await client.query('vacuum analyze quotas');
  } finally {
    await client.end();
  }
}
