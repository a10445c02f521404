CREATE TABLE "gallery_entries" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"published_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "stale_public_addresses" (
	"asset_id" uuid NOT NULL,
	"name" text NOT NULL,
	"since" timestamp(6) with time zone NOT NULL,
	CONSTRAINT "stale_public_addresses_asset_id_name_pk" PRIMARY KEY("asset_id","name")
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "published_in" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "published_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "unpublished_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "projects" ADD COLUMN "gallery" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "gallery_entries_in_order" ON "gallery_entries" USING btree (project_id,published_at,asset_id);--> statement-breakpoint
CREATE INDEX "stale_public_addresses_since" ON "stale_public_addresses" USING btree (since);--> statement-breakpoint
-- What everybody may see of an asset is told by its record alone. So whatever changes it, be it a request, a job or an older
-- version of the service, the gallery follows, and caches are told to forget what was there.
CREATE FUNCTION follow_public_assets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  was boolean := coalesce(OLD.published_in = coalesce(OLD.project_id, ''), false)
    AND OLD.state = 'ready' AND OLD.trashed_at IS NULL;
  is_now boolean := false;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    is_now := coalesce(NEW.published_in = coalesce(NEW.project_id, ''), false)
      AND NEW.state = 'ready' AND NEW.trashed_at IS NULL;
  END IF;
  IF was AND (NOT is_now OR NEW.name <> OLD.name OR NEW.object_key <> OLD.object_key) THEN
    INSERT INTO stale_public_addresses (asset_id, name, since) VALUES (OLD.id, OLD.name, clock_timestamp())
    ON CONFLICT (asset_id, name) DO UPDATE SET since = excluded.since;
  END IF;
  IF is_now AND NEW.project_id IS NOT NULL THEN
    INSERT INTO gallery_entries (asset_id, project_id, published_at) VALUES (NEW.id, NEW.project_id, NEW.published_at)
    ON CONFLICT (asset_id) DO UPDATE SET project_id = excluded.project_id, published_at = excluded.published_at
    WHERE (gallery_entries.project_id, gallery_entries.published_at) <> (excluded.project_id, excluded.published_at);
  ELSE
    DELETE FROM gallery_entries WHERE asset_id = OLD.id;
  END IF;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER assets_public_on_update AFTER UPDATE ON "assets" FOR EACH ROW
  WHEN (OLD.published_in IS NOT NULL OR NEW.published_in IS NOT NULL)
  EXECUTE FUNCTION follow_public_assets();
--> statement-breakpoint
CREATE TRIGGER assets_public_on_delete AFTER DELETE ON "assets" FOR EACH ROW
  WHEN (OLD.published_in IS NOT NULL)
  EXECUTE FUNCTION follow_public_assets();
