CREATE TABLE "audit_seals" (
	"day" date PRIMARY KEY NOT NULL,
	"rows" bigint NOT NULL,
	"digest" "bytea" NOT NULL,
	"sealed_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "audit_seals_digest" CHECK (octet_length(digest) = 32)
);
--> statement-breakpoint
CREATE TABLE "download_counts" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"downloads" bigint NOT NULL,
	"last_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "download_marks" (
	"asset_id" uuid NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "audit_events" ADD COLUMN "reason" text;--> statement-breakpoint
CREATE INDEX "download_marks_by_asset" ON "download_marks" USING btree (asset_id);--> statement-breakpoint
CREATE INDEX "audit_events_by_actor" ON "audit_events" USING btree (actor_id,id);--> statement-breakpoint
CREATE INDEX "audit_events_by_project" ON "audit_events" USING btree (project_id,id) WHERE project_id is not null;--> statement-breakpoint
CREATE INDEX "audit_events_by_time" ON "audit_events" USING btree (at,id);--> statement-breakpoint
-- Seals stay as they were written, like the rows that they are of.
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE ON "audit_seals"
  FOR EACH ROW EXECUTE FUNCTION audit_events_refuse_change();
--> statement-breakpoint
CREATE TRIGGER audit_seals_not_truncated BEFORE TRUNCATE ON "audit_seals"
  FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
