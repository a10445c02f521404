CREATE TABLE "life_cycle_looks" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"look_at" timestamp (3) with time zone NOT NULL,
	"linked_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "life_cycle_policies" (
	"asset_type" text PRIMARY KEY NOT NULL,
	"rules" jsonb NOT NULL,
	"changed_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "retention" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "temporary_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "tier" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "archived_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "restore" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "restored_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "projects" ADD COLUMN "life_cycle" jsonb;--> statement-breakpoint
CREATE INDEX "life_cycle_looks_due" ON "life_cycle_looks" USING btree (look_at,asset_id);--> statement-breakpoint
-- What is held stays what it is, but it may be brought back from the archive, where it lies under another key.
DROP TRIGGER assets_held_on_update ON "assets";
--> statement-breakpoint
CREATE TRIGGER assets_held_on_update BEFORE UPDATE OF state, object_key ON "assets" FOR EACH ROW
  WHEN ((OLD.holds IS NOT NULL OR OLD.retain_until > now())
    AND (NEW.state = 'deleting' OR (NEW.object_key IS DISTINCT FROM OLD.object_key
      AND NOT (OLD.tier IS NOT NULL AND NEW.tier IS NULL
        AND NEW.content_version = OLD.content_version AND NEW.sha256 IS NOT DISTINCT FROM COALESCE(OLD.sha256, NEW.sha256)))))
  EXECUTE FUNCTION refuse_held();
