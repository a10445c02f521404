CREATE TABLE "idempotency_keys" (
	"caller_id" text NOT NULL,
	"key" text NOT NULL,
	"fingerprint" "bytea" NOT NULL,
	"size" bigint,
	"claim" uuid NOT NULL,
	"lease_expires_at" timestamp (3) with time zone NOT NULL,
	"asset_id" uuid,
	"status" integer,
	"headers" jsonb,
	"body" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotency_keys_caller_id_key_pk" PRIMARY KEY("caller_id","key")
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "reconcile_objects" (
	"run_id" uuid NOT NULL,
	"key" text NOT NULL,
	"asset_id" uuid,
	"size" bigint NOT NULL,
	"last_modified" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "reconcile_objects_run_id_key_pk" PRIMARY KEY("run_id","key")
);
--> statement-breakpoint
CREATE TABLE "reconcile_runs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"started_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"dry_run" boolean NOT NULL,
	"outcome" text NOT NULL,
	"report" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
CREATE INDEX "idempotency_keys_by_age" ON "idempotency_keys" USING btree (created_at);--> statement-breakpoint
CREATE INDEX "idempotency_keys_by_asset" ON "idempotency_keys" USING btree (asset_id) WHERE asset_id is not null;--> statement-breakpoint
CREATE INDEX "assets_trashed_since" ON "assets" USING btree (trashed_at) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is not null;