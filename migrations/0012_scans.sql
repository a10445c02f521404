CREATE TABLE "scans" (
	"id" uuid PRIMARY KEY NOT NULL,
	"state" text NOT NULL,
	"before" timestamp (3) with time zone NOT NULL,
	"asset_type" text,
	"requested_by" text NOT NULL,
	"found" bigint,
	"scanned" bigint DEFAULT 0 NOT NULL,
	"infected" bigint DEFAULT 0 NOT NULL,
	"not_scanned" bigint DEFAULT 0 NOT NULL,
	"cursor" uuid,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "scans_state" CHECK (state in ('running', 'done', 'cancelled'))
);
--> statement-breakpoint
CREATE UNIQUE INDEX "scans_running" ON "scans" USING btree (state) WHERE state = 'running';--> statement-breakpoint
CREATE INDEX "assets_processing" ON "assets" USING btree (created_at) WHERE state = 'processing';