CREATE TABLE "copies" (
	"mirror" text NOT NULL,
	"object_key" text NOT NULL,
	"asset_id" uuid NOT NULL,
	"state" text DEFAULT 'pending' NOT NULL,
	"size" bigint NOT NULL,
	"sha256" "bytea",
	"attempts" integer DEFAULT 0 NOT NULL,
	"reason" text,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"behind_since" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"due_at" timestamp (3) with time zone DEFAULT now(),
	"claim" uuid,
	CONSTRAINT "copies_mirror_object_key_pk" PRIMARY KEY("mirror","object_key"),
	CONSTRAINT "copies_state" CHECK (state in ('pending', 'copied', 'failed', 'verified', 'deleting'))
);
--> statement-breakpoint
CREATE TABLE "mirror_minutes" (
	"mirror" text NOT NULL,
	"minute" timestamp (3) with time zone NOT NULL,
	"objects" bigint NOT NULL,
	"bytes" bigint NOT NULL,
	CONSTRAINT "mirror_minutes_mirror_minute_pk" PRIMARY KEY("mirror","minute")
);
--> statement-breakpoint
CREATE TABLE "mirrors" (
	"name" text PRIMARY KEY NOT NULL,
	"place" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "copies_by_asset" ON "copies" USING btree (asset_id);--> statement-breakpoint
CREATE INDEX "copies_waiting" ON "copies" USING btree (mirror,due_at,behind_since,size) WHERE state in ('pending', 'failed');--> statement-breakpoint
CREATE INDEX "copies_leaving" ON "copies" USING btree (mirror,due_at) WHERE state = 'deleting';--> statement-breakpoint
CREATE INDEX "copies_stored" ON "copies" USING btree (mirror,at) WHERE state in ('copied', 'verified');
--> statement-breakpoint
-- An object that is now that of an asset is to be copied to every mirror: told by triggers, so that no statement forgets it,
-- whoever wrote it, an instance of an earlier version beside this one included. Every record begins as an upload, and every
-- derivative in the making: so there is nothing to be told when one is inserted. Of a version, its asset had the object before.
CREATE FUNCTION note_copies(key text, asset uuid, size bigint, sha256 bytea) RETURNS void LANGUAGE sql AS $$
  INSERT INTO copies (mirror, object_key, asset_id, size, sha256)
  SELECT mirrors.name, key, asset, size, sha256 FROM mirrors
  ON CONFLICT (mirror, object_key) DO NOTHING
$$;
--> statement-breakpoint
CREATE FUNCTION note_copies_of_asset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM note_copies(NEW.object_key, NEW.id, NEW.size, NEW.sha256);
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION note_copies_of_derivative() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- What was made of an upload goes to the asset whose bytes it replaces.
  IF NEW.asset_id <> OLD.asset_id THEN
    UPDATE copies SET asset_id = NEW.asset_id WHERE asset_id = OLD.asset_id AND object_key = OLD.object_key;
  END IF;
  IF NEW.state = 'ready' AND OLD.state <> 'ready' THEN
    PERFORM note_copies(NEW.object_key, NEW.asset_id, NEW.size, NEW.sha256);
  END IF;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER assets_copied AFTER UPDATE OF "state", "object_key" ON "assets" FOR EACH ROW
  WHEN (NEW.state IN ('processing', 'ready') AND (OLD.state NOT IN ('processing', 'ready') OR NEW.object_key <> OLD.object_key))
  EXECUTE FUNCTION note_copies_of_asset();
--> statement-breakpoint
CREATE TRIGGER derivatives_copied AFTER UPDATE OF "state", "asset_id" ON "derivatives" FOR EACH ROW
  WHEN ((NEW.state = 'ready' AND OLD.state <> 'ready') OR NEW.asset_id <> OLD.asset_id)
  EXECUTE FUNCTION note_copies_of_derivative();
