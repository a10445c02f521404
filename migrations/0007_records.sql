CREATE TABLE "asset_statistics" (
	"owner_id" text NOT NULL,
	"dimension" text NOT NULL,
	"value" text NOT NULL,
	"files" bigint NOT NULL,
	"bytes" bigint NOT NULL,
	CONSTRAINT "asset_statistics_owner_id_dimension_value_pk" PRIMARY KEY("owner_id","dimension","value")
) WITH (fillfactor = 70);
--> statement-breakpoint
CREATE UNLOGGED TABLE "caller_counts" (
	"caller_id" text NOT NULL,
	"kind" text NOT NULL,
	"window_ends_at" timestamp (3) with time zone NOT NULL,
	"count" integer NOT NULL,
	CONSTRAINT "caller_counts_caller_id_kind_pk" PRIMARY KEY("caller_id","kind")
);
--> statement-breakpoint
CREATE TABLE "service_secrets" (
	"name" text PRIMARY KEY NOT NULL,
	"value" "bytea" NOT NULL
);
--> statement-breakpoint
-- Random UUIDs come from the strong random source of Postgres, 122 bits each.
INSERT INTO "service_secrets" ("name", "value")
VALUES ('object-keys', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD COLUMN "operation" text;
--> statement-breakpoint
-- Statistics are counted by triggers: so no statement can forget them, whoever wrote it, an instance of an earlier version
-- beside this one included. Once per statement and not per row, so that the deletion of a thousand assets changes a
-- counter once. In the order of the key, so that two statements never wait for each other.
CREATE FUNCTION asset_counters(owner text, state text, asset_type text, media_type text, project text, created timestamptz, files bigint, size bigint, metadata jsonb)
RETURNS TABLE (owner_id text, dimension text, value text, files bigint, bytes bigint) LANGUAGE sql STABLE AS $$
  SELECT owner, counter.dimension, counter.value, asset_counters.files, asset_counters.files * counter.bytes
  FROM (VALUES
    ('assetType', asset_type, size),
    ('day', CASE WHEN created > now() - interval '31 days' THEN to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD') END, size),
    ('mediaType', media_type, size),
    ('metadata', CASE WHEN metadata <> '{}' THEN '' END, octet_length(metadata::text)),
    ('project', coalesce(project, ''), size)
  ) AS counter (dimension, value, bytes)
  WHERE state IN ('processing', 'ready', 'rejected', 'lost') AND counter.value IS NOT NULL
$$;
--> statement-breakpoint
CREATE FUNCTION count_assets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO asset_statistics AS counted
    SELECT c.owner_id, c.dimension, c.value, sum(c.files), sum(c.bytes)
    FROM (
      SELECT owner_id, state, asset_type, media_type, project_id, created_at, 1 AS files, size, metadata FROM new_assets
      UNION ALL
      SELECT owner_id, state, asset_type, media_type, project_id, created_at, -1, size, metadata FROM old_assets
    ) AS a, asset_counters(a.owner_id, a.state, a.asset_type, a.media_type, a.project_id, a.created_at, a.files, a.size, a.metadata) AS c
    GROUP BY 1, 2, 3 HAVING sum(c.files) <> 0 OR sum(c.bytes) <> 0 ORDER BY 1, 2, 3
    ON CONFLICT (owner_id, dimension, value) DO UPDATE
    SET files = counted.files + excluded.files, bytes = counted.bytes + excluded.bytes;
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO asset_statistics AS counted
    SELECT c.owner_id, c.dimension, c.value, sum(c.files), sum(c.bytes)
    FROM new_assets AS a, asset_counters(a.owner_id, a.state, a.asset_type, a.media_type, a.project_id, a.created_at, 1, a.size, a.metadata) AS c
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (owner_id, dimension, value) DO UPDATE
    SET files = counted.files + excluded.files, bytes = counted.bytes + excluded.bytes;
  ELSE
    INSERT INTO asset_statistics AS counted
    SELECT c.owner_id, c.dimension, c.value, sum(c.files), sum(c.bytes)
    FROM old_assets AS a, asset_counters(a.owner_id, a.state, a.asset_type, a.media_type, a.project_id, a.created_at, -1, a.size, a.metadata) AS c
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (owner_id, dimension, value) DO UPDATE
    SET files = counted.files + excluded.files, bytes = counted.bytes + excluded.bytes;
  END IF;
  RETURN NULL;
END
$$;
--> statement-breakpoint
-- The triggers keep writers out until this migration commits: so nothing is missed and nothing counted twice.
CREATE TRIGGER assets_counted_on_insert AFTER INSERT ON "assets" REFERENCING NEW TABLE AS new_assets
  FOR EACH STATEMENT EXECUTE FUNCTION count_assets();
--> statement-breakpoint
CREATE TRIGGER assets_counted_on_update AFTER UPDATE ON "assets" REFERENCING OLD TABLE AS old_assets NEW TABLE AS new_assets
  FOR EACH STATEMENT EXECUTE FUNCTION count_assets();
--> statement-breakpoint
CREATE TRIGGER assets_counted_on_delete AFTER DELETE ON "assets" REFERENCING OLD TABLE AS old_assets
  FOR EACH STATEMENT EXECUTE FUNCTION count_assets();
--> statement-breakpoint
INSERT INTO "asset_statistics"
SELECT c.owner_id, c.dimension, c.value, sum(c.files), sum(c.bytes)
FROM "assets" AS a, asset_counters(a.owner_id, a.state, a.asset_type, a.media_type, a.project_id, a.created_at, 1, a.size, a.metadata) AS c
GROUP BY 1, 2, 3;
--> statement-breakpoint
-- The audit trail goes on in partitions by month. What was written so far becomes one of them, as it is.
ALTER TABLE "audit_events" RENAME TO "audit_events_before";
--> statement-breakpoint
ALTER INDEX "audit_events_by_asset" RENAME TO "audit_events_before_by_asset";
--> statement-breakpoint
ALTER INDEX "audit_events_by_owner" RENAME TO "audit_events_before_by_owner";
--> statement-breakpoint
DROP TRIGGER audit_events_append_only ON "audit_events_before";
--> statement-breakpoint
ALTER TABLE "audit_events_before" ALTER COLUMN "id" DROP IDENTITY;
--> statement-breakpoint
-- No identity: before version 17 Postgres has none in partitions.
CREATE SEQUENCE "audit_events_number";
--> statement-breakpoint
SELECT setval('audit_events_number', (SELECT coalesce(max("id"), 0) + 1 FROM "audit_events_before"), false);
--> statement-breakpoint
CREATE TABLE "audit_events" (
	"id" bigint DEFAULT nextval('audit_events_number') NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"action" text NOT NULL,
	"actor_id" text NOT NULL,
	"owner_id" text NOT NULL,
	"asset_id" uuid,
	"request_id" text,
	"detail" jsonb DEFAULT '{}'::jsonb NOT NULL
) PARTITION BY RANGE ("at");
--> statement-breakpoint
ALTER SEQUENCE "audit_events_number" OWNED BY "audit_events"."id";
--> statement-breakpoint
-- Cloned to every partition, present and future.
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON "audit_events"
  FOR EACH ROW EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
-- Not cloned: each partition has its own.
CREATE TRIGGER audit_events_not_truncated BEFORE TRUNCATE ON "audit_events"
  FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
-- The partitions with their bounds; the default one has none.
CREATE FUNCTION audit_events_partitions() RETURNS TABLE (name regclass, since timestamptz, until timestamptz)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
  SELECT inhrelid::regclass,
    CASE WHEN bound LIKE 'FOR VALUES FROM (MINVALUE)%' THEN '-infinity' ELSE substring(bound FROM 'FROM \(''([^'']+)') END::timestamptz,
    substring(bound FROM 'TO \(''([^'']+)')::timestamptz
  FROM (
    SELECT inhrelid, pg_get_expr(relpartbound, oid) AS bound
    FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'audit_events'::regclass
  ) AS bounds
  WHERE bound <> 'DEFAULT'
$$;
--> statement-breakpoint
-- Attached rather than created in place: that keeps nobody from writing.
CREATE FUNCTION audit_events_attach(name text, since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass(name) IS NULL THEN
    EXECUTE format('CREATE TABLE %I (LIKE audit_events INCLUDING ALL)', name);
    EXECUTE format('CREATE TRIGGER audit_events_not_truncated BEFORE TRUNCATE ON %I
      FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change()', name);
  END IF;
  IF until IS NULL THEN
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I DEFAULT', name);
  ELSE
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%L)', name,
      CASE since WHEN '-infinity' THEN 'MINVALUE' ELSE quote_literal(since) END, until);
  END IF;
END
$$;
--> statement-breakpoint
-- Makes the partitions of this month and the next two, and drops those whose newest row can only be older than
-- `keep_days`; 0 keeps all. Runs with the rights of the role that migrates, so that the role of the service needs none to
-- drop; therefore it does not take less than 30 days.
CREATE FUNCTION audit_events_maintain(keep_days integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
  month timestamptz;
  oldest timestamptz;
  newest timestamptz;
  expired regclass;
  dropped integer := 0;
BEGIN
  IF keep_days < 30 AND keep_days <> 0 THEN
    RAISE EXCEPTION 'audit rows are kept for 30 days at least';
  END IF;
  -- Instances take turns.
  PERFORM pg_advisory_xact_lock(7083201992);
  IF keep_days > 0 THEN
    FOR expired IN SELECT name FROM audit_events_partitions() WHERE until <= now() - make_interval(days => keep_days) LOOP
      EXECUTE format('DROP TABLE %s', expired);
      dropped := dropped + 1;
    END LOOP;
  END IF;
  -- What was written while there was no partition for it becomes one, unmoved.
  SELECT date_trunc('month', min(at)), date_trunc('month', max(at)) + interval '1 month' INTO oldest, newest
  FROM audit_events_default;
  IF oldest IS NOT NULL
    AND NOT EXISTS (SELECT FROM audit_events_partitions() WHERE since < newest AND until > oldest)
  THEN
    ALTER TABLE audit_events DETACH PARTITION audit_events_default;
    EXECUTE format('ALTER TABLE audit_events_default RENAME TO %I', to_char(oldest, '"audit_events_since_"YYYY_MM'));
    PERFORM audit_events_attach(to_char(oldest, '"audit_events_since_"YYYY_MM'), oldest, newest);
    PERFORM audit_events_attach('audit_events_default', NULL, NULL);
  END IF;
  FOR ahead IN 0..2 LOOP
    month := date_trunc('month', now()) + make_interval(months => ahead);
    CONTINUE WHEN EXISTS (SELECT FROM audit_events_partitions() WHERE since <= month AND until > month);
    PERFORM audit_events_attach(to_char(month, '"audit_events_"YYYY_MM'), month, month + interval '1 month');
  END LOOP;
  RETURN dropped;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION audit_events_maintain(integer) FROM PUBLIC;
--> statement-breakpoint
CREATE TRIGGER audit_events_not_truncated BEFORE TRUNCATE ON "audit_events_before"
  FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
SELECT audit_events_attach('audit_events_before', '-infinity', (
  SELECT (date_trunc('month', greatest(now(), max("at")) AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
  FROM "audit_events_before"
));
--> statement-breakpoint
SELECT audit_events_attach('audit_events_default', NULL, NULL);
--> statement-breakpoint
CREATE INDEX "audit_events_by_asset" ON "audit_events" USING btree (asset_id,id);
--> statement-breakpoint
CREATE INDEX "audit_events_by_owner" ON "audit_events" USING btree (owner_id,id);
--> statement-breakpoint
SELECT audit_events_maintain(0);
