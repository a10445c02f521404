CREATE TABLE "derivatives" (
	"id" uuid PRIMARY KEY NOT NULL,
	"asset_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"state" text NOT NULL,
	"reason" text,
	"object_key" text NOT NULL,
	"source_key" text NOT NULL,
	"media_type" text,
	"size" bigint,
	"sha256" "bytea",
	"width" integer,
	"height" integer,
	"options" jsonb,
	"progress" integer,
	"requested_by" text,
	"lease_expires_at" timestamp (3) with time zone,
	"asked_at" timestamp (3) with time zone NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "derivatives_kind" CHECK (kind in ('derivative', 'variant', 'transcode', 'replacement')),
	CONSTRAINT "derivatives_state" CHECK (state in ('making', 'ready', 'failed', 'discarded')),
	CONSTRAINT "derivatives_complete" CHECK (state <> 'ready' or (size is not null and media_type is not null))
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "scan" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "facts" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "original" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "thumb_hash" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "processing" jsonb;--> statement-breakpoint
CREATE UNIQUE INDEX "derivatives_by_name" ON "derivatives" USING btree (asset_id,name) WHERE state <> 'discarded';--> statement-breakpoint
CREATE INDEX "derivatives_by_asset" ON "derivatives" USING btree (asset_id);--> statement-breakpoint
CREATE INDEX "derivatives_to_remove" ON "derivatives" USING btree (updated_at) WHERE state in ('discarded', 'making');