CREATE TABLE "audit_former_seals" (
	"erasure_id" uuid NOT NULL,
	"day" date NOT NULL,
	"rows" bigint NOT NULL,
	"digest" "bytea" NOT NULL,
	"sealed_at" timestamp (3) with time zone NOT NULL,
	"replaced_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"was_intact" boolean NOT NULL,
	CONSTRAINT "audit_former_seals_day_erasure_id_pk" PRIMARY KEY("day","erasure_id")
);
--> statement-breakpoint
CREATE TABLE "erased_folders" (
	"erasure_id" uuid NOT NULL,
	"folder" text NOT NULL,
	CONSTRAINT "erased_folders_erasure_id_folder_pk" PRIMARY KEY("erasure_id","folder")
);
--> statement-breakpoint
CREATE TABLE "erasures" (
	"id" uuid PRIMARY KEY NOT NULL,
	"owner_id" text,
	"pseudonym" text NOT NULL,
	"project_assets" text NOT NULL,
	"state" text NOT NULL,
	"step" text NOT NULL,
	"requested_by" text NOT NULL,
	"request_id" text NOT NULL,
	"via" text,
	"reason" text,
	"counts" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"audit_day" date,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"receipt" text,
	CONSTRAINT "erasures_state" CHECK (state in ('running', 'done')),
	CONSTRAINT "erasures_owner" CHECK ((state = 'running') = (owner_id is not null)),
	CONSTRAINT "erasures_fate" CHECK (project_assets in ('leave', 'delete'))
);
--> statement-breakpoint
ALTER TABLE "erased_folders" ADD CONSTRAINT "erased_folders_erasure_id_erasures_id_fk" FOREIGN KEY ("erasure_id") REFERENCES "public"."erasures"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "erasures_running" ON "erasures" USING btree (owner_id) WHERE state = 'running';--> statement-breakpoint
CREATE INDEX "erasures_by_pseudonym" ON "erasures" USING btree (pseudonym,created_at);--> statement-breakpoint
CREATE INDEX "erasures_by_time" ON "erasures" USING btree (created_at,id);--> statement-breakpoint
-- Pseudonyms of erased owners are keyed by the first, receipts are signed by the second; see src/erasures/pseudonyms.ts and
-- src/erasures/receipt.ts.
INSERT INTO "service_secrets" ("name", "value")
VALUES ('pseudonyms', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))),
  ('receipts/0', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
--> statement-breakpoint
-- What happened, when and to which asset stays as it was written. Names in it may give way to a pseudonym, by the functions
-- below alone.
CREATE OR REPLACE FUNCTION audit_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND current_setting('stowage.erasure', true) = 'on' THEN
    IF TG_TABLE_NAME = 'audit_seals' THEN
      IF NEW.day = OLD.day AND NEW.rows = OLD.rows THEN
        RETURN NEW;
      END IF;
    ELSIF TG_TABLE_NAME LIKE 'audit\_events%' THEN
      IF (NEW.id, NEW.at, NEW.action, NEW.asset_id, NEW.request_id, NEW.project_id)
        IS NOT DISTINCT FROM (OLD.id, OLD.at, OLD.action, OLD.asset_id, OLD.request_id, OLD.project_id)
      THEN
        RETURN NEW;
      END IF;
    END IF;
  END IF;
  RAISE EXCEPTION '% is append-only', CASE WHEN TG_TABLE_NAME LIKE 'audit\_events%' THEN 'audit_events' ELSE TG_TABLE_NAME END;
END
$$;
--> statement-breakpoint
CREATE TRIGGER audit_former_seals_append_only BEFORE UPDATE OR DELETE ON "audit_former_seals"
  FOR EACH ROW EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
CREATE TRIGGER audit_former_seals_not_truncated BEFORE TRUNCATE ON "audit_former_seals"
  FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
-- The detail of an audit row without the subject; with `names`, without the words that were given to a file.
CREATE FUNCTION audit_erased(detail jsonb, subject text, pseudonym text, names boolean) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = public, pg_temp AS $$
BEGIN
  CASE jsonb_typeof(detail)
  WHEN 'object' THEN
    RETURN coalesce((
      SELECT jsonb_object_agg(key, CASE
        WHEN names AND key IN ('name', 'previousName', 'path', 'previousPath', 'addedTags', 'removedTags', 'changedMetadata')
          AND jsonb_typeof(value) <> 'null' THEN '"erased"'::jsonb
        ELSE audit_erased(value, subject, pseudonym, names) END)
      FROM jsonb_each(detail)
    ), '{}');
  WHEN 'array' THEN
    RETURN coalesce((
      SELECT jsonb_agg(audit_erased(element, subject, pseudonym, names) ORDER BY place)
      FROM jsonb_array_elements(detail) WITH ORDINALITY AS elements (element, place)
    ), '[]');
  WHEN 'string' THEN
    RETURN CASE detail #>> '{}' WHEN subject THEN to_jsonb(pseudonym) ELSE detail END;
  ELSE
    RETURN detail;
  END CASE;
END
$$;
--> statement-breakpoint
-- Replaces the name of an owner who is being erased, in the audit rows from one position to another, both inclusive; without
-- positions in all rows that he has written or that are about him, by their indexes. Rows of assets that are kept, because
-- somebody holds them, keep his name as the asset does. Runs with the rights of the role that migrates: the role of the
-- service may not change the trail, and by this it can replace nothing but the name of an owner by his pseudonym.
CREATE FUNCTION audit_events_pseudonymise(erasure uuid, first_at timestamptz, first_id bigint, last_at timestamptz, last_id bigint)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET stowage.erasure = 'on' AS $$
DECLARE
  subject text;
  pseudonym text;
  quoted text;
  changed integer;
BEGIN
  SELECT owner_id, e.pseudonym INTO subject, pseudonym FROM erasures AS e WHERE id = erasure AND state = 'running';
  IF subject IS NULL THEN
    RAISE EXCEPTION 'there is no such erasure that is running';
  END IF;
  quoted := to_jsonb(subject)::text;
  WITH named AS MATERIALIZED (
    SELECT e.tableoid AS place, e.ctid AS line FROM audit_events AS e
    WHERE first_at IS NOT NULL AND (e.at, e.id) >= (first_at, first_id) AND (e.at, e.id) <= (last_at, last_id)
      AND (actor_id = subject OR owner_id = subject OR via = 'token:' || subject
        OR position(subject IN reason) > 0 OR position(quoted IN detail::text) > 0)
    UNION ALL
    SELECT e.tableoid, e.ctid FROM audit_events AS e WHERE first_at IS NULL AND (actor_id = subject OR owner_id = subject)
  )
  UPDATE audit_events AS e SET
    actor_id = CASE actor_id WHEN subject THEN pseudonym ELSE actor_id END,
    owner_id = CASE owner_id WHEN subject THEN pseudonym ELSE owner_id END,
    via = CASE via WHEN 'token:' || subject THEN 'token:' || pseudonym ELSE via END,
    reason = CASE WHEN reason IS NULL THEN NULL WHEN actor_id = subject THEN 'erased' ELSE replace(reason, subject, pseudonym) END,
    detail = audit_erased(detail, subject, pseudonym, owner_id = subject
      AND NOT EXISTS (SELECT FROM assets AS a WHERE a.id = coalesce(e.asset_id, CASE action WHEN 'project.asset-left' THEN (e.detail ->> 'assetId')::uuid END))
      AND NOT (action LIKE 'project.%' AND action <> 'project.asset-left'
        AND EXISTS (SELECT FROM projects AS p WHERE p.id = e.project_id)))
  FROM named
  WHERE e.tableoid = named.place AND e.ctid = named.line
    AND NOT EXISTS (SELECT FROM assets AS a WHERE a.id = e.asset_id AND a.owner_id = subject);
  GET DIAGNOSTICS changed = ROW_COUNT;
  RETURN changed;
END
$$;
--> statement-breakpoint
-- Gives a day of the audit trail the seal that it has without the name, and keeps the one that it had.
CREATE FUNCTION audit_reseal(erasure uuid, sealed date, former bytea, renewed bytea, intact boolean)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET stowage.erasure = 'on' AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM erasures WHERE id = erasure AND state = 'running') THEN
    RAISE EXCEPTION 'there is no such erasure that is running';
  END IF;
  INSERT INTO audit_former_seals (erasure_id, day, rows, digest, sealed_at, was_intact)
  SELECT erasure, day, rows, digest, sealed_at, intact FROM audit_seals WHERE day = sealed AND digest = former;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE audit_seals SET digest = renewed WHERE day = sealed;
  RETURN true;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION audit_events_pseudonymise(uuid, timestamptz, bigint, timestamptz, bigint), audit_reseal(uuid, date, bytea, bytea, boolean) FROM PUBLIC;
