CREATE TABLE "assets" (
	"id" uuid PRIMARY KEY NOT NULL,
	"owner_id" text NOT NULL,
	"project_id" text,
	"name" text NOT NULL,
	"state" text NOT NULL,
	"asset_type" text,
	"media_type" text,
	"size" bigint,
	"sha256" "bytea",
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"object_key" text NOT NULL,
	"cache_control" text,
	"version" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"trashed_at" timestamp (3) with time zone,
	"reserved_bytes" bigint DEFAULT 0 NOT NULL,
	"lease_expires_at" timestamp (3) with time zone,
	CONSTRAINT "assets_state" CHECK (state in ('uploading', 'processing', 'ready', 'rejected', 'lost', 'deleting')),
	CONSTRAINT "assets_complete" CHECK (state in ('uploading', 'deleting') or (size is not null and media_type is not null and asset_type is not null and sha256 is not null)),
	CONSTRAINT "assets_reservation" CHECK (reserved_bytes >= 0 and (state = 'uploading' or reserved_bytes = 0))
);
--> statement-breakpoint
CREATE TABLE "audit_events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"action" text NOT NULL,
	"actor_id" text NOT NULL,
	"owner_id" text NOT NULL,
	"asset_id" uuid,
	"request_id" text,
	"detail" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "quotas" (
	"owner_id" text PRIMARY KEY NOT NULL,
	"limit_bytes" bigint,
	"used_bytes" bigint DEFAULT 0 NOT NULL,
	"reserved_bytes" bigint DEFAULT 0 NOT NULL,
	"file_count" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "quotas_not_negative" CHECK (limit_bytes >= 0 and used_bytes >= 0 and reserved_bytes >= 0 and file_count >= 0)
);
--> statement-breakpoint
CREATE TABLE "upload_counts" (
	"caller_id" text PRIMARY KEY NOT NULL,
	"window_ends_at" timestamp (3) with time zone NOT NULL,
	"uploads" integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX "assets_by_created" ON "assets" USING btree (owner_id,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_by_name" ON "assets" USING btree (owner_id,lower(name) collate "C",id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_by_size" ON "assets" USING btree (owner_id,size,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_by_project" ON "assets" USING btree (owner_id,project_id,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_by_asset_type" ON "assets" USING btree (owner_id,asset_type,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_by_media_type" ON "assets" USING btree (owner_id,media_type,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null;--> statement-breakpoint
CREATE INDEX "assets_trashed" ON "assets" USING btree (owner_id,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is not null;--> statement-breakpoint
CREATE INDEX "assets_uploading" ON "assets" USING btree (lease_expires_at) WHERE state = 'uploading';--> statement-breakpoint
CREATE INDEX "assets_deleting" ON "assets" USING btree (updated_at) WHERE state = 'deleting';--> statement-breakpoint
CREATE INDEX "audit_events_by_asset" ON "audit_events" USING btree (asset_id,id);--> statement-breakpoint
CREATE INDEX "audit_events_by_owner" ON "audit_events" USING btree (owner_id,id);